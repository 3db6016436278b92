"""Sockets of the service manager: taken once, kept from children, and refused if they can not be served on."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from apexbridge_trio.activation import passed_sockets
from apexbridge_trio.errors import ConfigInvalid

# Runs a program with this process's own number in LISTEN_PID, as a service manager does.
MANAGER = "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.execvp(sys.argv[1], sys.argv[1:])"
PROGRAM = """
import os, subprocess, sys
from apexbridge_trio.activation import passed_sockets
from apexbridge_trio.errors import ConfigInvalid
try:
    taken = passed_sockets()
except ConfigInvalid as fault:
    sys.exit(str(fault))
print([(sock.family.name, sock.get_inheritable(), sock.getsockname()) for sock in taken])
print(passed_sockets(), [name for name in os.environ if name.startswith("LISTEN")])
subprocess.run(["ls", "/proc/self/fd"], close_fds=False, check=True)
"""


def run(
    *passed: socket.socket, count: str | None = None, names: str = ""
) -> subprocess.CompletedProcess[str]:
    """Hand these over from descriptor 3 on, and say what came of it."""
    code = (
        "import fcntl, os, sys\n"
        f"numbers = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 100) for number in {[sock.fileno() for sock in passed]}]\n"
        "os.closerange(3, 100)\n"
        "for place, number in enumerate(numbers): os.dup2(number, 3 + place)\n"
        f"{MANAGER}"
    )
    return subprocess.run(
        [sys.executable, "-c", code, sys.executable, "-c", PROGRAM],
        env={**os.environ, "LISTEN_FDS": count or str(len(passed)), "LISTEN_FDNAMES": names},
        pass_fds=[sock.fileno() for sock in passed],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parents[1],
    )


def test_what_is_for_another_process_is_left_alone() -> None:
    assert passed_sockets({}) == []
    env = {"LISTEN_PID": str(os.getppid()), "LISTEN_FDS": "1"}
    assert passed_sockets(env) == []
    assert env == {}  # no child of ours may think it is for it


def test_tcp_ipv6_and_unix_are_taken_once_and_no_child_inherits_them(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as four,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        unix.bind(str(tmp_path / "hub.sock"))
        unix.listen()
        done = run(four, six, unix, names="http:http6:local")
        assert done.returncode == 0, done.stderr
        taken, again, *numbers = done.stdout.splitlines()
        assert taken == str(
            [
                ("AF_INET", False, four.getsockname()),
                ("AF_INET6", False, six.getsockname()),
                ("AF_UNIX", False, unix.getsockname()),
            ]
        )
        assert again == "[] []"
        assert numbers == ["0", "1", "2", "3"]  # 3 is the directory that ls reads


@pytest.mark.parametrize("count", ["0", "-1", "65", "x" * 5000])
def test_a_count_that_is_none_is_refused(count: str) -> None:
    with pytest.raises(ConfigInvalid, match="LISTEN_FDS"):
        passed_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count})


def test_descriptors_that_are_not_there_are_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        done = run(one, count="64")
    assert done.returncode == 1
    assert "no descriptor" in done.stderr


def test_what_takes_no_connections_is_refused_by_its_name() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        done = run(datagrams, names="http")
    assert done.returncode == 1
    assert "descriptor 3 (http) takes no connections" in done.stderr


def test_a_connection_of_an_accepting_unit_is_refused() -> None:
    near, far = socket.socketpair()
    with near, far:
        done = run(near, names="connection")
    assert done.returncode == 1
    assert "Accept=no" in done.stderr


def test_a_file_is_no_socket(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        done = run(file)  # type: ignore[arg-type]  # it has a descriptor, which is the point
    assert done.returncode == 1
    assert "no socket" in done.stderr
