"""A home in use whose hub is killed with SIGKILL, again and again (issue 6, "Shown when done", 4).

Chats, tasks of a node, callbacks, reminders, notices, keys and changes of the config at once; after each kill the store is
checked, and at the end all that was ever acknowledged is there, once, and each task in one final state.
"""

import json
import os
import random
import shutil
import socket
import statistics
import time
import tomllib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from apexbridge_trio.identity import Keys
from apexbridge_trio.results import FOLDER
from apexbridge_trio.store import FILE, RevisionRows, Store, Tasks
from tests.e2e.test_killed_hub import record_tasks, result_of
from tests.harness import process
from tests.harness.house import NET_S, _end, _furnish, make_key
from tests.harness.process import PYTHON, ROOT

# A request that is cut by the kill leaves httpx's own generator to the collector.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")

FINAL = {"succeeded", "failed", "interrupted", "timed_out", "lost"}
KINDS = ("task", "callback", "reminder", "notice", "key", "revoked", "revision")
MODELS = ["hello", "stream:20:5"]


@dataclass
class Home:
    """The house over all lives of its hub, and what was acknowledged in them.

    Attributes:
        acknowledged: Of each kind, ids or names that got their answer.
        started_s: How long each start took until the hub accepted.
        rounds: What was asked last of `chat.max_rounds`, and `rounds_set` what was answered last.
    """

    state: Path
    port: int
    toml: str
    key: str
    callbacks: list[str]
    chance: random.Random
    work: Path
    acknowledged: dict[str, set[str]] = field(default_factory=lambda: {kind: set() for kind in KINDS})
    seen_notices: set[str] = field(default_factory=set)
    started_s: list[float] = field(default_factory=list)
    lives: int = 0
    rounds: int = 8
    rounds_set: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def live(self) -> AsyncIterator[tuple[process.Running, httpx.AsyncClient]]:
        """One life of the hub, and who asks it."""
        self.lives += 1
        before = time.monotonic()
        headers = {"Authorization": f"Bearer {self.key}"}
        file = self.state / "config.toml"
        toml = file.read_text("utf-8") if file.exists() else self.toml
        async with process.hub(self.state, toml, "--bind", f"127.0.0.1:{self.port}") as running:
            self.started_s.append(time.monotonic() - before)
            # Not a part of the start: httpx reads all authorities there are, which takes as long as a tenth of it.
            async with httpx.AsyncClient(
                trust_env=False, timeout=NET_S, headers=headers, base_url=self.url
            ) as client:
                yield running, client


async def chat(home: Home, client: httpx.AsyncClient) -> None:
    body = {
        "model": home.chance.choice(MODELS),
        "messages": [{"role": "user", "content": "x"}],
        "stream": True,
    }
    async with client.stream("POST", "/v1/chat/completions", json=body) as reply:
        async for _ in reply.aiter_bytes():
            pass


async def task(home: Home, client: httpx.AsyncClient) -> None:
    name = f"t{home.chance.randrange(10**9)}"
    args = {"folder": str(home.work), "id": name}
    tool = home.chance.choice(["work", "again"])
    reply = await client.post("/v1/tasks", json={"toolName": tool, "toolArgs": args, "timeout": 20_000})
    if reply.status_code == 202:
        home.acknowledged["task"].add(reply.json()["taskId"])


async def callback(home: Home, client: httpx.AsyncClient) -> None:
    if not home.callbacks:
        return await trio.sleep(0.01)
    name = home.callbacks.pop()
    try:
        reply = await client.post(
            f"/plugin-callback/suno/{name}",
            json=result_of(name),
            headers={"Authorization": f"Bearer token-of-{name}"},
        )
    except httpx.TransportError:
        home.callbacks.insert(0, name)  # as a plugin does: again, until it is answered
        raise
    assert reply.status_code == 200, reply.text
    home.acknowledged["callback"].add(name)
    return None


async def reminder(home: Home, client: httpx.AsyncClient) -> None:
    wanted = {"text": "tea", "in": home.chance.choice([1, 2, 3])}
    reply = await client.post("/v1/reminders", json=wanted)
    if reply.status_code == 201:
        home.acknowledged["reminder"].add(reply.json()["id"])
    await trio.sleep(0.05)


async def notice(home: Home, client: httpx.AsyncClient) -> None:
    reply = await client.post("/v1/notifications", json={"message": "x"})
    if reply.status_code < 300:
        home.acknowledged["notice"].add(reply.json()["id"])
    await trio.sleep(0.05)


async def key(home: Home, _client: httpx.AsyncClient) -> None:
    """Make a key beside the hub, as `apexbridge keys` does, and revoke each second one."""
    with Store(home.state) as store:
        _, record = Keys(store).create(scopes=["chat"])
        home.acknowledged["key"].add(record.id)
        if home.chance.random() < 0.5 and Keys(store).revoke(record.id):
            home.acknowledged["revoked"].add(record.id)
    await trio.sleep(0.1)


async def setting(home: Home, client: httpx.AsyncClient) -> None:
    home.rounds += 1
    patch = {"chat": {"max_rounds": home.rounds}}
    reply = await client.patch("/v1/config", json=patch, headers={"If-Match": "*"})
    assert reply.status_code == 200, reply.text
    home.rounds_set = home.rounds
    home.acknowledged["revision"].add(reply.json()["revision"])
    await trio.sleep(0.05)


# What is done side by side, and how many at a time.
LOAD: list[tuple[Callable[[Home, httpx.AsyncClient], Awaitable[None]], int]] = [
    (chat, 3),
    (task, 3),
    (callback, 3),
    (reminder, 2),
    (notice, 2),
    (key, 1),
    (setting, 1),
]


async def until_it_dies(home: Home, client: httpx.AsyncClient, work: Any) -> None:
    with suppress(httpx.TransportError):
        while True:
            await work(home, client)


async def live_and_die(home: Home) -> None:
    async with home.live() as (running, client), trio.open_nursery() as nursery:
        for work, times in LOAD:
            for _ in range(times):
                nursery.start_soon(until_it_dies, home, client, work)
        await trio.sleep(home.chance.uniform(0.2, 1.2))  # the random moment itself
        running.process.kill()
        await running.process.wait()
        nursery.cancel_scope.cancel(reason="the hub was killed")
    check_store(home)


def check_store(home: Home) -> None:
    """Check what the kill has left, on a copy: the next hub is to find it as it is."""
    copy = home.state.parent / "copy"
    copy.mkdir()
    for name in (FILE, f"{FILE}-wal"):
        if (home.state / name).exists():
            shutil.copy(home.state / name, copy)
    with Store(copy) as store:
        assert list(store.execute("PRAGMA integrity_check")) == [("ok",)]
        check_kept(home, store)
    shutil.rmtree(copy)
    # Read by people, so that there is room for more (a tenant's are bounded).
    with Store(home.state) as store:
        for one in Tasks(store).notices():
            home.seen_notices.add(one.id)
            Tasks(store).settle_notice(one.id)


def check_kept(home: Home, store: Store) -> None:
    """Check that all that was acknowledged until now is there."""

    def ids(query: str) -> set[str]:
        return {row[0] for row in store.execute(query)}

    there = home.acknowledged
    assert there["task"] <= ids("SELECT id FROM node_tasks")
    assert there["callback"] <= ids("SELECT task_id FROM tasks WHERE state = 'succeeded'")
    notices = ids("SELECT id FROM notices") | home.seen_notices
    # One that has fired is forgotten when 500 younger ones have; its notice says that it has.
    assert there["reminder"] <= ids("SELECT id FROM reminders") | {one.rpartition("-")[0] for one in notices}
    assert there["notice"] <= notices
    assert there["key"] <= ids("SELECT id FROM keys")
    assert there["revoked"] <= ids("SELECT id FROM keys WHERE revoked_ms IS NOT NULL")
    config = tomllib.loads((home.state / "config.toml").read_text("utf-8"))
    assert home.rounds_set <= config.get("chat", {}).get("max_rounds", 8) <= home.rounds
    # The last 200 are kept.
    newest = sorted(there["revision"], key=lambda one: int(one.partition("-")[0]))[-100:]
    assert set(newest) <= {record.revision for record in RevisionRows(store).listed(200)}
    for name in there["callback"]:
        content = (home.state / FOLDER / f"suno/{name}.json").read_bytes()
        assert json.loads(content) == result_of(name)


async def check_ends(home: Home) -> None:
    """Let the house come to rest, and check how all of it has ended."""
    async with home.live() as (_, client):
        with trio.fail_after(NET_S):
            for task_id in sorted(home.acknowledged["task"]):
                await until_final(client, task_id)
            while await waiting(client):
                await trio.sleep(0.1)
    with Store(home.state) as store:
        assert list(store.execute("PRAGMA integrity_check")) == [("ok",)]
        check_kept(home, store)
        notices = {one.id for one in Tasks(store).notices()} | home.seen_notices
        fired = Counter(one.rpartition("-")[0] for one in notices)
        assert {fired[one] for one in home.acknowledged["reminder"]} == {1}
        assert {one for (one,) in store.execute("SELECT DISTINCT fired FROM reminders")} == {1}
        runs = list(store.execute("SELECT count(*) FROM reminder_runs"))
        assert runs == [(0,)]


async def until_final(client: httpx.AsyncClient, task_id: str) -> None:
    while (said := (await client.get(f"/v1/tasks/{task_id}")).json())["state"] not in FINAL:
        await trio.sleep(0.1)
    ends = [step["state"] for step in said["history"] if step["state"] in FINAL]
    assert ends == [said["state"]], said["history"]


async def waiting(client: httpx.AsyncClient) -> bool:
    return bool((await client.get("/v1/reminders")).json())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@asynccontextmanager
async def agent(home: Home, node_key: str) -> AsyncIterator[None]:
    """A node that stays while its hub comes and goes; what it is given ends at once."""
    place = home.state.parent / "node"
    _furnish(place, node_key)
    command = [
        PYTHON, "-m", "apexbridge_trio", "node", "--hub", home.url, "--key-file", str(place / "key"),
        "--name", "attic", "--id", "attic", "--state", str(place), "--plugins", str(place / "plugins"),
    ]  # fmt: skip
    log = os.open(place / "log", os.O_CREAT | os.O_WRONLY, 0o600)
    started = await trio.lowlevel.open_process(command, stdout=log, stderr=log, cwd=ROOT)
    os.close(log)
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            await _end(started)


async def kill_a_home(folder: Path, kills: int) -> Home:
    state, work = folder / "hub", folder / "work"
    state.mkdir()
    work.mkdir()
    (work / "go").touch()
    async with process.provider() as provider:
        home = Home(
            state=state,
            port=free_port(),
            toml='[log]\nlevel = "warning"\n' + process.upstream(provider.url, models=MODELS),
            key=await make_key(state, "admin", "chat"),
            callbacks=record_tasks(state, kills * 20),
            chance=random.Random(42),
            work=work,
        )
        async with agent(home, await make_key(state, "node")):
            for _ in range(kills):
                await live_and_die(home)
            await check_ends(home)
    return home


async def test_a_home_that_is_killed_three_times(tmp_path: Path) -> None:
    home = await kill_a_home(tmp_path, 3)
    assert home.acknowledged["callback"]
    assert home.acknowledged["reminder"]


@pytest.mark.prove
async def test_a_home_that_is_killed_a_hundred_times(tmp_path: Path, capsys: Any) -> None:
    home = await kill_a_home(tmp_path, 100)
    took = sorted(home.started_s)
    counts = ", ".join(f"{len(ids)} {kind}" for kind, ids in home.acknowledged.items())
    with capsys.disabled():
        print(
            f"\n100 kills: acknowledged {counts}; starts p50 {statistics.median(took):.2f} s,"
            f" p99 {took[int(len(took) * 0.99)]:.2f} s, max {took[-1]:.2f} s;"
            f" store {(home.state / FILE).stat().st_size >> 10} KB"
        )
    assert all(home.acknowledged.values())
