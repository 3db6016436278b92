"""What systemctl status says of the hub."""

import socket
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from apexbridge_trio.standing import standing, tell_standing
from tests.harness.node import connected
from tests.harness.world import open_world


async def test_it_counts_nodes_and_requests(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_world(tmp_path) as hub_world:
        hub = hub_world.hub
        assert standing(hub) == "ready: 0 nodes, 0 requests in flight"
        async with connected(hub_world) as node:
            await node.register()
            assert standing(hub) == "ready: 1 node, 0 requests in flight"
            hub.flights.is_draining = True
            assert standing(hub) == "draining: 1 node, 0 requests in flight"
            hub.flights.is_draining = False


async def test_a_change_is_told_at_most_once_a_second(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        async with open_world(tmp_path) as hub_world, trio.open_nursery() as nursery:
            nursery.start_soon(tell_standing, hub_world.hub)
            await wait_all_tasks_blocked()
            assert manager.recv(4096) == b"STATUS=ready: 0 nodes, 0 requests in flight"
            hub_world.hub.flights.is_draining = True
            mock_clock.jump(0.9)
            await wait_all_tasks_blocked()
            with pytest.raises(BlockingIOError):
                manager.recv(4096)
            mock_clock.jump(0.1)
            await wait_all_tasks_blocked()
            assert manager.recv(4096) == b"STATUS=draining: 0 nodes, 0 requests in flight"
            mock_clock.jump(10)
            await wait_all_tasks_blocked()
            with pytest.raises(BlockingIOError):
                manager.recv(4096)
            hub_world.hub.flights.is_draining = False
            nursery.cancel_scope.cancel(reason="the test is over")


async def test_without_a_manager_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    async with open_world(tmp_path) as hub_world:
        await tell_standing(hub_world.hub)
