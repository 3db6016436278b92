"""What this machine lets the hub hold back from a plugin's process; found out once, by trying.

A network can be cut where a process may make a network namespace: as root, or in a user namespace,
which some distributions forbid. A control group can be used where the hub's own may be written to:
systemd's ``Delegate=yes``, or root.
"""

import contextlib
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final

from msgspec import Struct

from apexbridge_trio.plugins import guard

# Starting a Python takes 20 ms; a machine that needs longer than this has other troubles.
_PROBE_S: Final = 20.0
_TRY: Final = "import sys; sys.path.insert(0, sys.argv[1]); import guard; guard.cut_network()"


class Sandbox(Struct, frozen=True):
    """What can be held back here.

    Args:
        can_cut_network: Whether a process can be run without network.
        cgroup: Where control groups can be made; None: nowhere.
    """

    can_cut_network: bool
    cgroup: Path | None


@cache
def probe() -> Sandbox:
    """Try what this machine allows; blocks for the start of a process, once."""
    return Sandbox(can_cut_network=_can_cut_network(), cgroup=find_cgroup())


def _can_cut_network() -> bool:
    command = [sys.executable, "-I", "-S", "-c", _TRY, str(Path(guard.__file__).parent)]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        tried = subprocess.run(command, check=False, capture_output=True, timeout=_PROBE_S)  # noqa: S603
        return tried.returncode == 0
    return False


def find_cgroup(proc: Path = Path("/proc/self")) -> Path | None:
    """Return the hub's own control group (version 2), if groups can be made and killed in it."""
    with contextlib.suppress(OSError, StopIteration):
        lines = (proc / "mountinfo").read_text().splitlines()
        mount = next(line.split()[4] for line in lines if " - cgroup2 " in line)
        lines = (proc / "cgroup").read_text().splitlines()
        own = next(line.removeprefix("0::/") for line in lines if line.startswith("0::/"))
        group = Path(mount) / own
        tried = group / f"apexbridge-{os.getpid()}"
        tried.mkdir()
        try:
            can_kill = (tried / "cgroup.kill").exists() and os.access(group / "cgroup.procs", os.W_OK)
        finally:
            tried.rmdir()
        return group if can_kill else None
    return None
