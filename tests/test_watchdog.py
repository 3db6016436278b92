"""A sign of life twice in each interval, from inside the loop."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from apexbridge_trio.watchdog import watchdog, watchdog_s


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as datagrams:
        datagrams.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield datagrams


def heard(manager: socket.socket) -> list[bytes]:
    said = []
    while True:
        try:
            said.append(manager.recv(4096))
        except BlockingIOError:
            return said


@pytest.mark.parametrize(
    ("env", "interval_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getppid())}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_what_the_manager_expects(env: dict[str, str], interval_s: float | None) -> None:
    assert watchdog_s(env) == interval_s


async def test_a_sign_of_life_twice_in_each_interval(manager: socket.socket, mock_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(watchdog, 30.0)
        assert heard(manager) == [b"WATCHDOG=1"]
        for _ in range(3):
            mock_clock.jump(14.9)
            await wait_all_tasks_blocked()
            assert heard(manager) == []
            mock_clock.jump(0.1)
            await wait_all_tasks_blocked()
            assert heard(manager) == [b"WATCHDOG=1"]
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_without_a_watchdog_nothing_runs(manager: socket.socket) -> None:
    await watchdog()
    assert heard(manager) == []
