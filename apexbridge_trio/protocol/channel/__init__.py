"""The node channel, sans IO: what each end may say next, and what the other end said.

Bytes in, values out. `HubEnd` is the hub's end, `NodeEnd` a node's; a frame that is wrong is never an
exception of a caller's: it becomes `Rejected`, with the frame to answer it, and the channel goes on.

==============  =======================================================================
state           the node may send
==============  =======================================================================
connected       ``node_register``
registering     anything: it is held until the hub has decided (results may follow at once)
registered      anything; ``node_register`` again changes what it offers
refused         ``node_register``; it may also be admitted later, unasked
left            nothing
==============  =======================================================================
"""

from apexbridge_trio.protocol.channel.events import (
    Dialect,
    Event,
    ForwardedCallback,
    Ignored,
    Placeholders,
    Rejected,
    State,
)
from apexbridge_trio.protocol.channel.held import MOST_HELD_BYTES, Held
from apexbridge_trio.protocol.channel.hub import HubEnd
from apexbridge_trio.protocol.channel.node import HubSaid, NodeEnd

__all__ = [
    "MOST_HELD_BYTES",
    "Dialect",
    "Event",
    "ForwardedCallback",
    "Held",
    "HubEnd",
    "HubSaid",
    "Ignored",
    "NodeEnd",
    "Placeholders",
    "Rejected",
    "State",
]
