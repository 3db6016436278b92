"""How busy this machine is, as far as it tells; what it does not tell is left out."""

import os
import resource
from typing import Any


def cpus() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def load_average() -> float:
    """Return how many processes wanted to run in the last minute; 0 where a sandbox hides that."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return 0.0


def load(running: int, most: int) -> float:
    """Return from 0 to 1 how little this node should be given: by its tasks, or by all that runs here."""
    return round(min(1.0, max(running / most, load_average() / cpus())), 3)


def resources() -> dict[str, Any]:
    """Return what a heartbeat says of the machine; memory in bytes."""
    found: dict[str, Any] = {"cpus": cpus(), "loadAverage": round(load_average(), 2)}
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        found["memoryTotal"] = os.sysconf("SC_PHYS_PAGES") * page
        found["memoryFree"] = os.sysconf("SC_AVPHYS_PAGES") * page
    except (OSError, ValueError):
        pass
    # In KiB on Linux: the most that this process ever had.
    found["agentMemory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return found
