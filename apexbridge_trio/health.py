"""How the hub is, and what it stands on: read when somebody asks, nothing is written by a look.

The hub can serve as long as its store takes writes: without it nothing could be acknowledged. A
provider, a node or a plugin that is down is told and is no reason to take the hub away.

===========  ======================================================================
state        meaning
===========  ======================================================================
ok           it works
limited      a part of it does not, the rest goes on
failing      it does not work
open         a provider that is left alone for now
unknown      it was not asked yet
===========  ======================================================================
"""

import os
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from apexbridge_trio.hub import Hub
from apexbridge_trio.plugins import roster

# A write that takes longer than this does not come to an end: the disk hangs.
STUCK_S: Final = 10.0
# Below it, the next backup, update or log does not fit.
LOW_BYTES: Final = 256 * 1024 * 1024
LOW_SHARE: Final = 0.02
# More than this is no drift that NTP puts right, but a clock that was set.
JUMP_S: Final = 2.0

Dependency = dict[str, Any]


class Health:
    """Looks at a hub.

    Args:
        monotonic: Seconds of a clock that nobody sets; the journal's.
    """

    def __init__(self, hub: Hub, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._hub = hub
        self._monotonic = monotonic

    @property
    def store_fault(self) -> str:
        """Why the store can not be written; empty, if it can, as far as is known."""
        journal = self._hub.journal
        if journal.writing_since is not None and self._monotonic() - journal.writing_since > STUCK_S:
            return "A write to the disk does not come to an end."
        try:
            is_read_only = os.statvfs(self._hub.state).f_flag & os.ST_RDONLY
        except OSError as fault:
            return f"The state directory can not be looked at: {fault.strerror}."
        if is_read_only:
            return "The state directory is mounted read-only."
        return journal.trouble.reason if journal.trouble else ""

    def dependencies(self) -> list[Dependency]:
        """Return what the hub stands on, the hub's own parts first."""
        own = (self._store(), self._disk(), self._clock(), self._plugins(), self._nodes())
        upstreams = ({"kind": "upstream", **up.state()} for up in self._hub.models.upstreams.values())
        return [*own, *upstreams]

    def _store(self) -> Dependency:
        journal = self._hub.journal
        fault = self.store_fault
        age_s = None if journal.last_write is None else self._monotonic() - journal.last_write
        detail = f"{len(journal)} writes wait" if len(journal) else ""
        return _told("store", "failing" if fault else "ok", fault or detail, age_s)

    def _disk(self) -> Dependency:
        try:
            found = os.statvfs(self._hub.state)
        except OSError as fault:
            return _told("disk", "failing", f"It can not be looked at: {fault.strerror}.", 0.0)
        free, size = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        is_low = free < min(LOW_BYTES, LOW_SHARE * size)
        if found.f_files and not found.f_favail:  # some file systems have no such number
            return _told("disk", "failing", "It takes no more files (df -i).", 0.0)
        state = "failing" if not free else "limited" if is_low else "ok"
        return _told("disk", state, f"{_size(free)} of {_size(size)} free", 0.0)

    def _clock(self) -> Dependency:
        clock = self._hub.clock
        if words := clock.words:
            return _told("clock", "limited" if clock.fires else "failing", words, 0.0)
        if abs(jump_s := clock.set_by_s) > JUMP_S:
            way = "forward" if jump_s > 0 else "back"
            return _told("clock", "limited", f"It was put {way} by {abs(jump_s):.0f} s since the start.", 0.0)
        return _told("clock", "ok", "", 0.0)

    def _plugins(self) -> Dependency:
        entries = roster(self._hub.plugins)
        failing = [f"{one['name']}: {one['state']}" for one in entries if one["health"] == "failing"]
        limited = [one["name"] for one in entries if one["health"] == "limited"]
        if failing:
            return _told("plugins", "limited", f"failing: {', '.join(failing)}"[:500], 0.0)
        detail = f"this machine can not hold: {', '.join(limited)}"[:500] if limited else ""
        return _told("plugins", "ok", detail, 0.0)

    def _nodes(self) -> Dependency:
        counts = Counter(node.status for node in self._hub.nodes.registry)
        detail = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
        return _told("nodes", "limited" if counts["offline"] else "ok", detail, 0.0)


def _told(name: str, state: str, detail: str, age_s: float | None) -> Dependency:
    age = None if age_s is None else round(age_s, 1)
    return {"kind": "hub", "name": name, "state": state, "checkedAgeS": age, "detail": detail}


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
