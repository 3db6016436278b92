"""A place is opened: its fault is one sentence, and code that hangs at its import is given up.

What waits there for something is left behind in its thread: Python has no means to end it.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Final

from apexbridge_trio.errors import ConfigInvalid
from apexbridge_trio.log import get_logger
from apexbridge_trio.notify import notify
from apexbridge_trio.plugins.boundary import told
from apexbridge_trio.plugins.plugin import Plugin

# For the import of an inline plugin's code; large libraries take half of that on a memory card.
OPEN_S: Final = 60.0
# Whoever watches a start is told what it waits for, after this many seconds.
SLOW_S: Final = 3.0

log = get_logger("plugins")

# Opens what is in a place; blocks.
Open = Callable[[], Plugin | None]
Opened = Plugin | ConfigInvalid | None


def attempt(where: Path, open_it: Open) -> Opened:
    """Open a place; what is wrong with it is returned."""
    try:
        return open_it()
    except ConfigInvalid as fault:
        return fault
    except Exception as fault:  # noqa: BLE001  # the trust boundary of a folder
        return ConfigInvalid(f"{where}: {told(fault)}")


def attempt_in_time(where: Path, open_it: Open) -> Opened:
    """Open a place within `OPEN_S`; blocks. The log, and systemd, are told of one that is slow."""
    future: Future[Opened] = Future()
    name = f"opening {where.name}"
    threading.Thread(target=_fill, args=(future, where, open_it), name=name, daemon=True).start()
    with suppress(TimeoutError):
        return future.result(SLOW_S)
    log.warning("a plugin takes its time; the start waits for it", plugin=where.name, at_most_s=OPEN_S)
    # The time of a unit to start goes on from here, so that it does not end the hub for one plugin.
    notify(f"STATUS=waiting for the plugin {where.name}", f"EXTEND_TIMEOUT_USEC={2 * OPEN_S * 1e6:.0f}")
    with suppress(TimeoutError):
        return future.result(OPEN_S - SLOW_S)
    return too_slow(where, OPEN_S)


def too_slow(where: Path, open_s: float) -> ConfigInvalid:
    """Return the fault of a place that was not open in time."""
    return ConfigInvalid(f"{where}: it can not be opened within {open_s:g} s")


def _fill(future: Future[Opened], where: Path, open_it: Open) -> None:
    found: Opened = ConfigInvalid(f"{where}: its import ended its thread")
    try:
        found = attempt(where, open_it)
    finally:
        future.set_result(found)
