"""The clock: what time it is, here or elsewhere."""

from datetime import datetime
from difflib import get_close_matches
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import trio

from apexbridge_trio.plugins import PluginHome

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


async def clock_now(arguments: dict[str, Any], home: PluginHome) -> dict[str, str]:
    """Tell the time at home, or in the zone that was asked for."""
    return await trio.to_thread.run_sync(tell, home.now(), arguments.get("zone"))


def tell(now: datetime, zone: str | None) -> dict[str, str]:
    """Put a moment into words, as it is in `zone`."""
    if zone is not None:
        now = now.astimezone(find_zone(zone))
    return {
        "zone": str(now.tzinfo),
        "date": now.date().isoformat(),
        "time": f"{now:%H:%M}",
        "weekday": WEEKDAYS[now.weekday()],
        "utc_offset": f"{now:%z}",
    }


def find_zone(asked: str) -> ZoneInfo:
    """Find a zone by its IANA name or by its city, in any case.

    Only names of the time zone database reach the file system.

    Raises:
        LookupError: There is no such zone; the message names near ones.
    """
    names = zone_names()
    key = str(asked).strip().replace(" ", "_").casefold()
    if key not in names:
        near = ", ".join(names[name] for name in get_close_matches(key, names, n=3))
        raise LookupError(f"no time zone {asked!r}" + (f", near: {near}" if near else ""))
    return ZoneInfo(names[key])


@cache
def zone_names() -> dict[str, str]:
    """Return every zone by its name and by its city, casefolded; it reads a few hundred files."""
    zones = sorted(available_timezones())
    cities = {zone.rpartition("/")[2].casefold(): zone for zone in zones}
    return cities | {zone.casefold(): zone for zone in zones}
