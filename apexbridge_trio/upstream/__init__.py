"""Model providers: asked over the relay, repeated while nothing was heard, left alone when dead.

Theory of operation. An answer is opened in one task, below its caller: a slot of the provider's
concurrency, then attempts until one is answered or the last fault is told. All of it is inside the
caller's deadline, and what the block holds (slot, connection) goes with the block. What is
remembered between requests is only the circuit, the idle connections and the list of models.

Rules.
- Nothing is asked again once a byte of an answer was handed on.
- The hub's key goes into the request's head and nowhere else; what a provider says about a key is
  never passed on.
- Only here is httpx used for providers: to list models, in no one's way.
"""

from apexbridge_trio.upstream.local import find_local
from apexbridge_trio.upstream.source import Upstream

__all__ = ["Upstream", "find_local"]
