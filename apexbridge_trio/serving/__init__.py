"""Hypercorn's HTTP/1.1 and WebSocket, hardened: one bad peer harms nobody but itself.

The stock Trio worker (Hypercorn 0.18.0) keeps all connections in one nursery, so an exception in one
ends the process, and it waits without bound for clients that do not read. Here its protocol objects
stay and what is around them is ours.

Theory of operation. A connection is a nursery with one long-lived task, the reader, and one task per
request. *The reader only reads*: it parses, hands messages to the request's inbox and posts replies
of its own, and none of that waits, so a peer that leaves is noticed at once in every phase. All
bytes out go through the connection's `Wire`: posting never waits, and an app waits for the wire to
drain after each of its own messages, which is the one place of back-pressure. Every wait for the peer
is bounded by the phase the connection is in:

    phase    waits for                      bounded by           then
    HEAD     a request's head               header_timeout_s     408, end
    BODY     more of its body               body_timeout_s       408, end
    ANSWER   nothing; a byte is read ahead  the request's owner
    IDLE     the next request               idle_timeout_s       end
    SOCKET   WebSocket frames               2.5 ping intervals   end
    LINGER   the peer to hang up            5 s, 30 s in all     end

Rules: nothing in the reader's path suspends but the read itself; a connection's faults end in its
own `run`; a request's faults end in its own task.
"""

from apexbridge_trio.serving.address import Address
from apexbridge_trio.serving.limits import ServingLimits
from apexbridge_trio.serving.server import serve, serve_stream
from apexbridge_trio.serving.versions import PROVED, require_proved

__all__ = ["PROVED", "Address", "ServingLimits", "require_proved", "serve", "serve_stream"]
