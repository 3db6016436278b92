"""A clock that was believed although something on record is of later: noted for the next start."""

import msgspec

from apexbridge_trio.audit import HUB, Audit
from apexbridge_trio.store import AuditRows, Store


def doubted_ms(store: Store, now_s: float) -> int | None:
    """Return from when on times on record are wrong, as they were later than a clock that was believed.

    Else one hour with a clock in years to come had each start wait for an hour, until that year. Once that
    time has come there is nothing to doubt any more.
    """
    [*found] = AuditRows(store).listed(limit=1, action="clock.believed")
    if not found or found[0].after is None:
        return None
    since_ms: int = msgspec.json.decode(found[0].after)["laterMs"]
    return since_ms if now_s * 1000 < since_ms else None


def note_belief(store: Store, audit: Audit, now_s: float) -> None:
    """Note that the clock is taken for right, and the first time on record that is later."""
    if (later_ms := store.next_ms(int(now_s * 1000))) is not None:
        audit.note("clock.believed", "clock", HUB, after={"laterMs": later_ms})
