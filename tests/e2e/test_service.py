"""The hub as systemd runs it: sockets that outlive it, a watchdog that it answers, a line on how it stands."""

import json
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import pytest
import trio

from tests.harness import process
from tests.harness.wire import Peer

NET_S = 120.0  # a safety net, not a bound that is tested

# What systemd does between fork and exec: the descriptors from 3 on, and for whom they are.
MANAGER = """
import fcntl, os, sys
numbers = [fcntl.fcntl(int(number), fcntl.F_DUPFD_CLOEXEC, 100) for number in sys.argv[1].split(",")]
os.closerange(3, 100)
for place, number in enumerate(numbers):
    os.dup2(number, 3 + place)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(numbers))}
os.execv(sys.executable, [sys.executable, "-m", "apexbridge_trio", *sys.argv[2:]])
"""
# The hub, and a signal that blocks its loop as a plugin in its process could: in the loop's own thread.
BLOCKABLE = """
import os, signal, threading
from apexbridge_trio.cli.main import main
def blocked(*_):
    os.write(2, b"the loop is held\\n")
    threading.Event().wait()
signal.signal(signal.SIGUSR1, blocked)
main()
"""


@asynccontextmanager
async def activated(state: Path, sockets: Sequence[socket.socket]) -> AsyncIterator[process.Running]:
    """Run the hub on sockets that are the test's."""
    numbers = [sock.fileno() for sock in sockets]
    command = [process.PYTHON, "-c", MANAGER, ",".join(map(str, numbers)), "serve", "--state", str(state)]
    async with process.process(*command, pass_fds=numbers) as running:
        yield running


def asked(method: str, path: str, body: bytes = b"") -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )


async def ask(stream: trio.SocketStream, path: str = "/health") -> int:
    """Ask on a connection that is there already, and hang up."""
    async with stream:
        peer = Peer(stream)
        await peer.send(asked("GET", path))
        return (await peer.reply()).status


async def connect_and_ask(port: int) -> int:
    return await ask(await trio.open_tcp_stream("127.0.0.1", port))


async def test_a_restart_drops_no_connection_attempt(tmp_path: Path) -> None:
    with trio.fail_after(NET_S), socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        port = listening.getsockname()[1]
        answered: list[int] = []
        here, restarted, left = 8, trio.Event(), trio.Event()

        async def keep_coming() -> None:
            nonlocal here
            while not restarted.is_set():
                answered.append(await connect_and_ask(port))
            here -= 1
            if not here:
                left.set()

        async with activated(tmp_path, [listening]) as first:
            assert first.url == f"http://127.0.0.1:{port}"
            assert await connect_and_ask(port) == 200
            async with trio.open_nursery() as clients:
                for _ in range(here):
                    clients.start_soon(keep_coming)
                assert await first.end() == 0
                # Nobody is there: it is connected all the same, and what it asks waits.
                waiting = Peer(await trio.open_tcp_stream("127.0.0.1", port))
                await waiting.send(asked("GET", "/health"))
                async with waiting.stream, activated(tmp_path, [listening]):
                    assert (await waiting.reply()).status == 200
                    assert await connect_and_ask(port) == 200
                    restarted.set()
                    # Who comes to a hub that ends waits for the next, and there is none.
                    await left.wait()
        assert len(answered) > 8
        assert set(answered) == {200}


async def test_sockets_of_every_kind_are_served_and_only_loopback_is_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "hub.sock"
    with (
        trio.fail_after(NET_S),
        socket.socket(socket.AF_UNIX) as unix,
        socket.create_server(("127.0.0.1", 0)) as four,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
    ):
        unix.bind(str(path))
        unix.listen()
        async with activated(tmp_path, [unix, four, six]) as hub:
            assert hub.first_line == f"listening on unix:{path}"
            models = "/v1/models"
            assert await ask(await trio.open_unix_socket(path), models) == 401
            for sock in (four, six):
                host, port = sock.getsockname()[:2]
                assert await ask(await trio.open_tcp_stream(host, port), models) == 200
            assert await ask(await trio.open_unix_socket(path)) == 200


async def test_without_an_address_of_tcp_it_says_that_plugins_can_not_call_back(tmp_path: Path) -> None:
    with trio.fail_after(NET_S), socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "hub.sock"))
        unix.listen()
        async with activated(tmp_path, [unix]) as hub:
            assert await ask(await trio.open_unix_socket(tmp_path / "hub.sock")) == 200
        assert b"plugins can not call back" in hub.said


async def test_what_can_not_be_served_on_is_said_in_one_line(tmp_path: Path) -> None:
    with trio.fail_after(NET_S), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        number = datagrams.fileno()
        command = [process.PYTHON, "-c", MANAGER, str(number), "serve", "--state", str(tmp_path)]
        done = await trio.run_process(
            command,
            pass_fds=[number],
            check=False,
            capture_stdout=True,
            capture_stderr=True,
            cwd=process.ROOT,
        )
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"use ListenStream= and Accept=no" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="no systemd here")
async def test_systemds_own_tool_starts_it_at_the_first_connection(tmp_path: Path) -> None:
    path = tmp_path / "hub.sock"
    statuses: list[int] = []

    async def come() -> None:
        while True:
            try:
                stream = await trio.open_unix_socket(path)
            except (FileNotFoundError, ConnectionRefusedError):
                await trio.sleep(0.02)
                continue
            statuses.append(await ask(stream))
            return

    hub = [process.PYTHON, "-m", "apexbridge_trio", "serve", "--state", str(tmp_path)]
    with trio.fail_after(NET_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(come)
            command = ["systemd-socket-activate", "--listen", str(path), "--fdname", "http", *hub]
            async with process.process(*command) as running:
                while not statuses:
                    await trio.sleep(0.02)
                assert await running.end() == 0
    assert running.first_line == f"listening on unix:{path}"
    assert statuses == [200]


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "notify")
        self.socket = trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    async def __aenter__(self) -> Self:
        await self.socket.bind(self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.socket.close()

    async def hear(self, word: str) -> None:
        """Listen until this is said."""
        while word not in (await self.socket.recv(4096)).decode().splitlines():
            pass

    async def hears_nothing(self, interval_s: float) -> None:
        """Listen as systemd does: until nothing was said for the watchdog's interval."""
        while True:
            with trio.move_on_after(interval_s) as patience:
                await self.socket.recv(4096)
            if patience.cancelled_caught:
                return


async def test_a_loop_that_is_blocked_misses_the_watchdog_and_says_where_it_stood(tmp_path: Path) -> None:
    interval_s = 1.0
    async with Manager(tmp_path) as manager:
        env = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": str(round(interval_s * 1e6))}
        command = [
            process.PYTHON,
            "-c",
            BLOCKABLE,
            "serve",
            "--state",
            str(tmp_path),
            "--bind",
            "127.0.0.1:0",
        ]
        with trio.fail_after(NET_S):
            async with process.process(*command, env=env) as hub:
                await manager.hear("READY=1")
                for _ in range(2):
                    await manager.hear("WATCHDOG=1")
                hub.process.send_signal(signal.SIGUSR1)
                while b"the loop is held" not in hub.said:
                    await trio.sleep(0.01)
                await manager.hears_nothing(interval_s)
                hub.process.send_signal(signal.SIGABRT)  # what systemd does then
                assert await hub.ended() == -signal.SIGABRT
    assert b"Fatal Python error: Aborted" in hub.said
    assert b"in blocked" in hub.said


async def test_a_hub_that_is_stopped_misses_the_watchdog_and_goes_on_after_it(tmp_path: Path) -> None:
    interval_s = 1.0
    async with Manager(tmp_path) as manager:
        env = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": str(round(interval_s * 1e6))}
        with trio.fail_after(NET_S):
            async with process.hub(tmp_path, env=env) as hub:
                await manager.hear("WATCHDOG=1")
                os.kill(hub.process.pid, signal.SIGSTOP)
                await manager.hears_nothing(interval_s)
                os.kill(hub.process.pid, signal.SIGCONT)
                await manager.hear("WATCHDOG=1")


async def test_its_status_says_what_is_in_flight(tmp_path: Path) -> None:
    chat = {"model": "endless:50", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    body = json.dumps(chat).encode()
    async with Manager(tmp_path) as manager, process.provider() as provider:
        toml = "[server]\ndrain_timeout_s = 600\n" + process.upstream(provider.url, models=["endless:50"])
        with trio.fail_after(NET_S):
            async with process.hub(tmp_path, toml, env={"NOTIFY_SOCKET": manager.path}) as hub:
                await manager.hear("STATUS=ready: 0 nodes, 0 requests in flight")
                async with await trio.open_tcp_stream("127.0.0.1", int(hub.url.rpartition(":")[2])) as stream:
                    await stream.send_all(asked("POST", "/v1/chat/completions", body))
                    await manager.hear("STATUS=ready: 0 nodes, 1 request in flight")
                    hub.process.send_signal(signal.SIGTERM)
                    # A drain longer than TimeoutStopSec= is announced, with what comes after it.
                    await manager.hear("EXTEND_TIMEOUT_USEC=620000000")
                    await manager.hear("STATUS=draining: 0 nodes, 1 request in flight")
                assert await hub.ended() == 0
