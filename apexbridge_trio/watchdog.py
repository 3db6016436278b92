"""Tells the service manager that the loop turns: systemd's watchdog.

Whoever blocks the loop blocks this as well, which is the point: after ``WatchdogSec=`` without a word
systemd ends the process, writes where it stood (see `daemon.run`), and starts another.
"""

import os
from collections.abc import Mapping

import trio

from apexbridge_trio.notify import notify


def watchdog_s(env: Mapping[str, str] = os.environ) -> float | None:
    """Return how long the manager waits for a sign of life, in seconds; None: it does not."""
    text = env.get("WATCHDOG_USEC", "")
    if not text.isdecimal() or int(text) == 0:
        return None
    if env.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # it is a parent that is watched
    return int(text) / 1_000_000


async def watchdog(
    interval_s: float | None = None, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Give a sign of life twice in each interval, until cancelled; without a watchdog return at once.

    Args:
        interval_s: The manager's; None: what the environment says.
        task_status: Started once the first sign was given.
    """
    interval_s = interval_s or watchdog_s()
    if interval_s is not None:
        notify("WATCHDOG=1")
    task_status.started()
    while interval_s is not None:
        await trio.sleep(interval_s / 2)
        notify("WATCHDOG=1")
