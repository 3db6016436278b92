"""The live tree: everything that can be interrupted, and the only door to interrupt it.

A flight is a cancel scope with a name and a place in the tree. Work is done inside its ``with``
block; leaving the block is the proof that the work is gone, so a receipt is nothing but a record of
which blocks were left, and when. Nothing here is looked up twice or awaited in between: opening,
stopping and leaving are synchronous, so there are no locks and no moment in which the tree is wrong.

A stop travels down by itself, since the scopes of the children lie inside the parent's.

============  =====================================================
state         meaning
============  =====================================================
running       inside the block
stopping      told to stop; the block is not left yet
stopped       the block was left
============  =====================================================
"""

from apexbridge_trio.flights.flight import Flight, Watcher, tree_entry
from apexbridge_trio.flights.flights import REMEMBERED_RECEIPTS, Flights
from apexbridge_trio.flights.stop import Stop

__all__ = ["REMEMBERED_RECEIPTS", "Flight", "Flights", "Stop", "Watcher", "tree_entry"]
