"""Real disks that refuse: a tiny file system of its own, or a process that may write no more."""

import resource
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from tests.harness.process import PYTHON


@dataclass
class TinyDisk:
    """A tmpfs in a mount namespace of its own; what is to see it runs behind `prefix`.

    Attributes:
        folder: Where it is, for who runs inside.
        seen: The same, for this process.
    """

    folder: Path
    seen: Path
    prefix: list[str]

    def fill(self) -> None:
        """Leave no byte free."""
        with (self.seen / "filler").open("ab", buffering=0) as file:
            for size in (65536, 4096, 1):
                with pytest.raises(OSError, match="No space left"):
                    while True:
                        file.write(bytes(size))

    def empty(self) -> None:
        """Make room again."""
        (self.seen / "filler").unlink()

    def run(self, command: str) -> None:
        """Run a shell's line inside."""
        subprocess.run([*self.prefix, "sh", "-c", command], check=True, timeout=60)


@contextmanager
def tiny_disk(folder: Path, size: str) -> Iterator[TinyDisk]:
    """Mount one; skips the test where the kernel refuses."""
    folder.mkdir()
    mount = f"mount -t tmpfs -o size={size},mode=700 none {shlex.quote(str(folder))} && echo ready && cat"
    holder = subprocess.Popen(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", mount],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        if holder.stdout.readline() != b"ready\n":
            pytest.skip("this machine lets nobody mount a file system of their own")
        prefix = [
            "nsenter",
            "-t",
            str(holder.pid),
            "-U",
            "-m",
            "--preserve-credentials",
            f"--wd={Path.cwd()}",
        ]
        yield TinyDisk(folder, Path(f"/proc/{holder.pid}/root{folder}"), prefix)
    finally:
        holder.stdin.close()
        holder.stdout.close()
        holder.wait(60)


def stop_writing(running: trio.Process) -> None:
    """Have each write of a process to a file fail (EFBIG), as on a disk that breaks."""
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def go_on_writing(running: trio.Process) -> None:
    """Take that back."""
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def serve_command(state: Path) -> list[str]:
    """Return how a hub is started, with nothing made beforehand."""
    return [PYTHON, "-m", "apexbridge_trio", "serve", "--state", str(state), "--bind", "127.0.0.1:0"]
