"""The config that is in force, and the one way in which it changes.

Theory of operation. What is in force is one frozen `Snapshot` (the config, and the models made of
it). A request takes it once, at its beginning, and keeps it. A change, wherever it comes from
(`PATCH`, a rollback, SIGHUP, an edit of the file), goes the same way::

    read the file ─ say what it shall be ─ check all of it ─┬─ refused: nothing was changed
                                                            │
      one thread, one change at a time                      └─ make the models ─ write the file
                                                                                      │
      one step of the loop:  snapshot exchanged, rooms told, revision posted  ◀───────┘
                                                                                      │
      once the revision and its line in the audit are on disk:  config.changed is told ◀┘

Rules.
- The file is the truth. A hub that is killed between the file and the revision finds at its next start
  that the file is none it knows of, and notes it as a revision then.
- Cancelled before the file is written, nothing is changed; after that all of it is done.
- Followers only take values over: they do not wait, and do not fail.
"""

from apexbridge_trio.settings.change import Change, Origin
from apexbridge_trio.settings.settings import Settings
from apexbridge_trio.settings.snapshot import Snapshot
from apexbridge_trio.settings.watch import watch_file

__all__ = ["Change", "Origin", "Settings", "Snapshot", "watch_file"]
