"""The process, under the names that every client library of Prometheus uses.

Read from ``/proc/self``: the library's own collector also wants ``/proc/stat``, which the unit's
``ProcSubset=pid`` hides, and then tells nothing at all.
"""

import os
import resource
from pathlib import Path
from typing import Final

from apexbridge_trio import __version__
from apexbridge_trio.metrics.families import Family, gauge, one

_SELF: Final = Path("/proc/self")


def process_families() -> list[Family]:
    """Return what the kernel says of this process; little, where there is no ``/proc``."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    families = [
        gauge("apexbridge_build_info", "The version of the hub.", ["version"], [((__version__,), 1)]),
        one("process_cpu_seconds", "CPU time, user and system.", used.ru_utime + used.ru_stime, "counter"),
        one("process_max_fds", "Most file descriptors.", resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
    ]
    try:
        # The listing's own descriptor is among them.
        open_fds = len(os.listdir(_SELF / "fd")) - 1  # noqa: PTH208  # a list of names is all that is wanted
        resident = int((_SELF / "statm").read_text("ascii").split()[1]) * resource.getpagesize()
    except OSError:
        return families
    return [
        *families,
        one("process_open_fds", "Open file descriptors.", open_fds),
        one("process_resident_memory_bytes", "Resident memory.", resident),
    ]
