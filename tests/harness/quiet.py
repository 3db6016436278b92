"""What must be the same after a test as before it: file descriptors, children, tasks."""

import gc
import os
from dataclasses import dataclass
from pathlib import Path


def open_fds() -> dict[str, str]:
    """Map each open descriptor to what it is, leaving out those that Python's own machinery keeps."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
        if not target.startswith(("/dev/", "/proc/")):
            found[fd] = target
    return found


def children() -> set[int]:
    """Pids of this process's children, zombies among them."""
    while True:
        try:
            found = [path.read_text("ascii") for path in Path("/proc/self/task").glob("*/children")]
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread has ended in between, and another one has its children now
        return {int(pid) for text in found for pid in text.split()}


@dataclass(frozen=True)
class Traces:
    """What a test has left in the process."""

    fds: dict[str, str]
    children: set[int]

    @classmethod
    def now(cls) -> "Traces":
        return cls(open_fds(), children())

    def left_since(self, before: "Traces") -> str:
        """Say what is here that was not `before`, or nothing."""
        fds = {fd: what for fd, what in self.fds.items() if before.fds.get(fd) != what}
        kids = self.children - before.children
        return "; ".join(
            part for part in (f"open: {fds}" if fds else "", f"children: {kids}" if kids else "") if part
        )


def settle() -> Traces:
    """Collect what nobody holds any more, then look."""
    gc.collect()
    return Traces.now()
