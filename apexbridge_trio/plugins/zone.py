"""The home's time zone by name, as a calendar needs it: an offset alone is wrong half of the year."""

import os
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

LOCALTIME: Final = Path("/etc/localtime")


def machine_zone(localtime: Path = LOCALTIME) -> ZoneInfo:
    """Return the machine's zone: of ``TZ``, of where ``/etc/localtime`` points, or of what it holds.

    Only the last one, a copied file, leaves the name unknown; without any it is UTC, as in libc.
    """
    linked = localtime.resolve().as_posix().partition("/zoneinfo/")[2]
    for name in (os.environ.get("TZ", "").removeprefix(":"), linked):
        try:
            return ZoneInfo(name)
        except (ValueError, ZoneInfoNotFoundError, OSError):
            continue  # absent, or of another form, such as EST5EDT4
    if localtime.is_file():
        with localtime.open("rb") as file:
            return ZoneInfo.from_file(file)
    return ZoneInfo("UTC")
