"""The hot path's own HTTP/1.1 client: keep-alive, on Trio streams, with a C parser; bytes in, bytes out.

Theory of operation. A `RelayPool` belongs to one upstream and keeps its idle connections. Opening a
request takes the newest idle connection that is still silent and not too old, or dials a new one
(TCP, proxy, TLS). The response is parsed by httptools (llhttp, strict) and its body is handed on as
it came: one read of the socket is one `receive()`, whatever the number of chunks in it. There is
no task, no lock and no timer of its own: a wait is bounded by a scope around that very wait, so the
time a slow client takes is never held against the provider.

Rules.
- Who holds a connection is decided without an await: it is in the pool, or below one `open` block.
- Leaving the block closes the socket in the same step, unless the response was read to its end: then
  it goes back. Nothing is awaited, so a cancelled block closes as fast as any other.
- A response that breaks a rule of HTTP ends its connection; llhttp's leniencies stay off.
- Only here is a connection to a provider opened for a chat.
"""

from apexbridge_trio.relay.pool import RelayPool, RelayResponse
from apexbridge_trio.relay.route import Connect, open_plain, tls_context

__all__ = ["Connect", "RelayPool", "RelayResponse", "open_plain", "tls_context"]
