"""Tasks that answer later: who waits for them, and what is done when nobody does.

The `Ledger` decides and the `Journal` writes; here is what runs. A call that may answer later is
recorded before its plugin is told where to call back. From then on there are two ways to the end::

    open_call ── tool.call ──┬── an answer           the record is dropped
                             └── Pending ── result ──┬── the callback came      taken
                                                     ├── wait_s has passed      kept
                                                     └── cancelled: interrupted withdrawn
                                                                    else        kept

Kept means that a later callback is still taken, also after a restart, and the owner is owed a notice.
A client that leaves, or a deadline, does not lose a result; only somebody who says stop does.

What still runs after the plugin's answer is closed once its task has ended: by who waits, or by this
room's own nursery when nobody does.
"""

from apexbridge_trio.pending.call import PendingCall
from apexbridge_trio.pending.entry import pending_entry, whole_pending_entry
from apexbridge_trio.pending.pendings import MOST_WAITING_BYTES, SWEEP_EVERY_S, Pendings

__all__ = [
    "MOST_WAITING_BYTES",
    "SWEEP_EVERY_S",
    "PendingCall",
    "Pendings",
    "pending_entry",
    "whole_pending_entry",
]
