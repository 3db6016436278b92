"""The guard of one call: starts a plugin's process, and leaves only when nothing of it is left.

Run by its file's name, as ``python -I -S guard.py CONTROL GRACE_S MEMORY_MB NETWORK CGROUP COMMAND…``,
with nothing but the standard library, since it is started for each call. Its standard streams are
the plugin's; CONTROL is the number of a socket to the hub.

It is the subreaper of all that comes of the plugin: a process that changes its session or is
orphaned by a double fork becomes a child of the guard, not of init. So "no child left" (ECHILD) is
the kernel's word that the whole tree is gone, and only children are killed, whose ids nobody else
can free. The hub hangs up CONTROL to end the tree; a hub that dies hangs up too.

::

    start      subreaper, no new privileges, network cut; fork; limits; exec
    watch      until the hub hangs up, or no child is left
    end        SIGTERM to all; after GRACE_S SIGKILL, until no child is left

On CONTROL it says, a line each: ``failed <why>`` if the plugin could not be started, ``exited <code>``
when its first process did, and at last ``ended <processes> <how>``: how many had to be ended.
"""

# It is started for each call, and pathlib takes as long to import as all the rest.
# ruff: noqa: PTH102, PTH106, PTH123, PTH208

import contextlib
import ctypes
import os
import resource
import select
import signal
import sys
import time

# <linux/prctl.h>, <linux/sched.h>
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 36, 38
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000

# A child's end wakes the guard; this is how often it looks anyway, for what forks meanwhile, seconds.
LOOK_AGAIN_S = 0.02

# Whoever ends the hub's service sends these to all its processes at once; the hub says when.
PATIENT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

LIBC = ctypes.CDLL(None, use_errno=True)


class Guard:
    """The tree below this process."""

    def __init__(self, control: int, grace_s: float, memory_mb: int, cgroup: str) -> None:
        self.control = control
        self.grace_s = grace_s
        self.memory_mb = memory_mb
        self.cgroup = cgroup
        self.main = 0
        self.woken, woken = os.pipe()
        os.set_blocking(woken, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)

    def start(self, command: list[str]) -> None:
        """Start the plugin's first process."""
        if self.cgroup:
            os.mkdir(self.cgroup)
        self.main = os.fork()
        if self.main == 0:
            try:
                self._become(command)
            except OSError as fault:
                self.say(f"failed {fault.strerror}")
            finally:
                os._exit(127)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):  # or the hub would not see that the plugin closed them
            os.dup2(nowhere, stream)

    def _become(self, command: list[str]) -> None:
        libc("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        if self.cgroup:
            write(f"{self.cgroup}/cgroup.procs", "0")
        if self.memory_mb:
            # Not RLIMIT_AS: Node reserves gigabytes of addresses that it never uses.
            most = self.memory_mb * 1024 * 1024
            resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and that is inherited
            signal.signal(number, signal.SIG_DFL)
        # What came since the fork is delivered now: it may have been the SIGTERM of `end`.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PATIENT)
        os.execvp(command[0], command)  # noqa: S606  # the plugin is what is to be run

    def watch(self) -> None:
        """Wait until the hub hangs up, or no child is left."""
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.woken, select.POLLIN)
        while self.reap() and self.control not in dict(poll.poll()):
            os.read(self.woken, 512)

    def end(self) -> None:
        """End whatever is left, and say so."""
        self.main = 0  # an exit from here on is our doing, not news
        doomed = descendants(os.getpid())
        for pid in doomed:
            # A process that is reaped in this very moment and whose id is taken anew is the one
            # case in which somebody else is asked to end; it needs all ids to be used up meanwhile.
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + self.grace_s
        while self.reap() and time.monotonic() < until:
            self.rest()
        while self.reap():
            if self.cgroup:
                write(f"{self.cgroup}/cgroup.kill", "1")
            for pid in children(os.getpid()):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            self.rest()
        if self.cgroup:
            os.rmdir(self.cgroup)
        self.say(f"ended {len(doomed)} {'cgroup' if self.cgroup else 'group+subreaper'}")

    def rest(self) -> None:
        """Wait until a child has ended, not longer than `LOOK_AGAIN_S`."""
        if select.select([self.woken], [], [], LOOK_AGAIN_S)[0]:
            os.read(self.woken, 512)

    def reap(self) -> bool:
        """Bury who has died; tell whether anyone is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.main:
                self.say(f"exited {os.waitstatus_to_exitcode(status)}")

    def say(self, line: str) -> None:
        """Tell the hub, if it is still there."""
        with contextlib.suppress(OSError):
            os.write(self.control, f"{line}\n".encode())


def cut_network() -> None:
    """Move into a network namespace with nothing in it; without root that takes a user namespace.

    Raises:
        OSError: The kernel, or who configured it, does not let us.
    """
    user, group = os.geteuid(), os.getegid()
    libc("unshare", CLONE_NEWNET | (CLONE_NEWUSER if user else 0))
    if user:
        write("/proc/self/setgroups", "deny")
        write("/proc/self/uid_map", f"{user} {user} 1")
        write("/proc/self/gid_map", f"{group} {group} 1")


def descendants(pid: int) -> list[int]:
    """Return all living processes below `pid`."""
    found = children(pid)
    for child in found:  # it grows meanwhile
        found += children(child)
    return [pid for pid in found if is_alive(pid)]


def children(pid: int) -> list[int]:
    """Return the children of `pid`, dead ones that nobody has waited for among them."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    return found


def is_alive(pid: int) -> bool:
    """Tell whether a process is there and more than a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] != b"Z"
    except OSError:
        return False


def libc(function: str, *arguments: int) -> None:
    """Call a function of the C library that answers 0.

    Raises:
        OSError: It does not.
    """
    if getattr(LIBC, function)(*arguments, *[0] * (5 - len(arguments))):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def write(path: str, text: str) -> None:
    """Write to a file of the kernel's."""
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def main(control: str, grace_s: str, memory_mb: str, network: str, cgroup: str, *command: str) -> None:
    """Guard one command."""
    os.set_inheritable(int(control), False)  # noqa: FBT003  # it takes no names
    signal.pthread_sigmask(signal.SIG_BLOCK, PATIENT)
    guard = Guard(int(control), float(grace_s), int(memory_mb), cgroup)
    try:
        libc("prctl", PR_SET_CHILD_SUBREAPER, 1)
        libc("prctl", PR_SET_NO_NEW_PRIVS, 1)
        if network == "cut":
            cut_network()
        guard.start(list(command))
    except OSError as fault:
        guard.say(f"failed {fault.strerror}")
    else:
        guard.watch()
        guard.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
