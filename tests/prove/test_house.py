"""A house full of machines, with large numbers: `make prove`."""

import json
import os
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio

from benchmarks.nodes import BenchNode
from tests.e2e.test_nodes import chat, until_file
from tests.fakes.fleet import Fleet
from tests.harness import process
from tests.harness.house import House, house, is_alive

pytestmark = pytest.mark.prove

AGENTS = 300
TASKS_EACH = 2
IDLE = 1000
IDLE_S = 60
TREES = 50
LIMITS = f"{process.UNLIMITED}max_connections = 3000\n"


def rss_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * 4096 / 1e6


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def test_three_hundred_agents_come_back_after_a_kill(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toml = LIMITS + "[nodes]\nrejoin_grace_s = 60.0\ntask_timeout_s = 600.0\n"
    async with house(tmp_path, toml) as first, trio.open_nursery() as nursery:
        port = first.hub.url.rpartition(":")[2]
        fleet = Fleet(first.hub.url, first.node_key, tmp_path / "agents")
        nursery.start_soon(fleet.run, AGENTS)
        await first.until("/v1/nodes?status=online", lambda nodes: len(nodes) == AGENTS)
        tasks: dict[str, str] = {}
        for number in range(AGENTS * TASKS_EACH):
            name = "work" if number % 2 else "again"
            body = {"toolName": name, "toolArgs": {"id": str(number)}, "timeout": 600_000}
            tasks[(await first.post("/v1/tasks", body)).json()["taskId"]] = str(number)
        with trio.fail_after(120):
            while len(fleet.runs) < len(tasks):
                await trio.sleep(0.1)
        first.hub.process.kill()
        await first.hub.process.wait()
        died, before = trio.current_time(), len(fleet.joined)
        assert before == AGENTS
        await trio.sleep(5)  # a while in which all of them fail to come back
        headers = {"Authorization": first.admin.headers["authorization"]}
        async with (
            process.hub(tmp_path / "hub", toml, "--bind", f"127.0.0.1:{port}") as hub,
            httpx.AsyncClient(trust_env=False, timeout=60, headers=headers) as client,
        ):
            again = House(tmp_path, hub, client, first.node_key)
            up = trio.current_time()
            fleet.go.set()
            await again.until("/v1/nodes?status=online", lambda nodes: len(nodes) == AGENTS)
            back = [at - up for at in fleet.joined[before:]]
            states: Counter[str] = Counter()
            for task_id in tasks:
                shown = await again.until(f"/v1/tasks/{task_id}", lambda task: task["endedAt"] is not None)
                states[shown["state"]] += 1
                ends = [step for step in shown["history"] if step["state"] in {"succeeded", "lost", "failed"}]
                assert len(ends) == 1
        assert states == {"succeeded": len(tasks)}
        assert all(fleet.runs[number] == 1 for task, number in tasks.items() if int(number) % 2)
        assert max(fleet.runs.values()) == 1
        buckets = Counter(int(at) for at in back)
        mean = len(back) / (int(max(back)) + 1)
        with capsys.disabled():
            print(
                f"\n{AGENTS} agents, {len(tasks)} tasks: hub away {up - died:.1f} s, all back within {max(back):.1f} s; "
                f"accepts a second: mean {mean:.1f}, peak {max(buckets.values())} "
                f"({max(buckets.values()) / mean:.1f} times); {dict(states)}, none ran twice"
            )
        assert max(buckets.values()) <= 3 * mean
        nursery.cancel_scope.cancel()


async def test_an_interrupt_ends_the_tree_on_the_node_again_and_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with process.provider() as provider:
        toml = process.upstream(provider.url, models=["tools"])
        async with house(tmp_path, toml) as home, home.node("attic"):
            took = []
            for number in range(TREES):
                folder = tmp_path / f"tree{number}"
                folder.mkdir()
                body = chat(f"spawn {json.dumps({'folder': str(folder)})}", "hands", requestId=f"r{number}")
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(home.post, "/v1/chat/completions", body)
                    pids = [int(line) for line in await until_file(folder / "pids", 10)]
                    reply = await home.post("/v1/interrupt", {"requestId": f"r{number}", "waitS": 60})
                    assert not [pid for pid in pids if is_alive(pid)]
                assert reply.json()["state"] == "stopped"
                took.append(reply.json()["tookMs"])
    with capsys.disabled():
        print(
            f"\n{TREES} trees of ten on a node, interrupted: none alive at `stopped`; "
            f"ms p50 {statistics.median(took)} max {max(took)}"
        )


@asynccontextmanager
async def idle_nodes(home: House, many: int) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        port = int(home.hub.url.rpartition(":")[2])
        for number in range(many):
            await nursery.start(BenchNode(port, home.node_key, f"idle{number}").run)
        yield
        nursery.cancel_scope.cancel()


async def test_a_thousand_idle_nodes_for_a_minute(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = LIMITS + "[nodes]\nheartbeat_interval_s = 300.0\n"
    async with house(tmp_path, toml) as home:
        before = rss_mb(home.hub.process.pid)
        async with idle_nodes(home, IDLE):
            await trio.sleep(IDLE_S)
            after = rss_mb(home.hub.process.pid)
            assert len(await home.get("/v1/nodes?status=online")) == IDLE
        await home.until("/v1/nodes?status=online", lambda nodes: not nodes)
        with capsys.disabled():
            each = (after - before) * 1000 / IDLE
            print(
                f"\n{IDLE} idle nodes for {IDLE_S} s: RSS {before:.0f} -> {after:.0f} MB, {each:.0f} KB each"
            )
        assert each < 60


async def latencies(home: House, many: int) -> tuple[list[float], list[float]]:
    chats, tasks = [], []
    for _ in range(many):
        began = time.perf_counter()
        reply = await home.post(
            "/v1/chat/completions", {"messages": [{"role": "user", "content": "what time is it"}]}
        )
        assert reply.status_code == 200
        chats.append(time.perf_counter() - began)
        began = time.perf_counter()
        reply = await home.post("/v1/nodes/idle0/tasks", {"toolName": "echo", "waitForResult": True})
        assert reply.json()["success"], reply.text
        tasks.append(time.perf_counter() - began)
    return chats, tasks


@pytest.mark.parametrize("kind", ["heartbeats", "log", "nonsense", "results"])
async def test_a_flood_is_not_felt_by_others(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toml = "[nodes]\nheartbeat_interval_s = 300.0\n"
    async with house(tmp_path, toml) as home, idle_nodes(home, 1), trio.open_nursery() as nursery:
        await latencies(home, 20)
        quiet = await latencies(home, 100)
        nursery.start_soon(_flood_from_elsewhere, home, kind)
        await home.until("/v1/nodes", lambda nodes: any(node["id"].startswith("flood") for node in nodes))
        loud = await latencies(home, 100)
        nursery.cancel_scope.cancel()
    figures = [
        f"{what} p99 {percentile(one, 0.99) * 1e3:.1f} -> {percentile(other, 0.99) * 1e3:.1f} ms"
        for what, one, other in zip(("chat", "task"), quiet, loud, strict=True)
    ]
    with capsys.disabled():
        print(f"\nflood of {kind}: {', '.join(figures)}")


async def _flood_from_elsewhere(home: House, kind: str) -> None:
    """In a process of its own, so that the clients here are not slowed by it."""
    command = [process.PYTHON, "-m", "tests.fakes.flooder", home.hub.url, kind]
    await trio.run_process(
        command, env={**os.environ, "NODE_KEY": home.node_key}, cwd=process.ROOT, check=False
    )
