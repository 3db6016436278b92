"""What is told to the people of a tenant as it happens: numbered, kept for a while, fanned out.

Publishing is synchronous and waits for nobody: an event gets its number, goes into its tenant's history,
and is posted to each subscriber that may see it. A subscriber that does not take it is cut, and may come
back with the number of what it had last.

Rules.
- `seq` counts up within a tenant, over all its families; `epoch` is new with each hub. A reader sees gaps.
- What is read after a position is all there was that the reader may see, in order, or nothing and the word
  "not recovered": never a part.
- A chat that is over is its end: with it, its start and its pieces leave the history, and the end has the
  whole text.
"""

from apexbridge_trio.events.bus import Events, Listener, Subscription, kinds_of
from apexbridge_trio.events.event import KINDS, Event, Kind
from apexbridge_trio.events.history import Bounds, History

__all__ = ["KINDS", "Bounds", "Event", "Events", "History", "Kind", "Listener", "Subscription", "kinds_of"]
