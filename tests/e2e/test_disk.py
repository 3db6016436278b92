"""A hub whose disk refuses: what needs none goes on, nothing is acknowledged, and it ends by itself."""

import signal
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import trio

from apexbridge_trio.store import Store, Tasks
from tests.e2e.test_killed_hub import record_tasks, result_of
from tests.harness import process
from tests.harness.disk import go_on_writing, serve_command, stop_writing, tiny_disk
from tests.harness.house import make_key

NET_S = 120.0


@dataclass
class Asked:
    """A hub, and who asks it."""

    url: str
    client: httpx.AsyncClient

    async def post(self, path: str, body: Any, token: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return await self.client.post(f"{self.url}{path}", json=body, headers=headers)

    async def chat(self) -> str:
        said = await self.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "1+1"}]})
        assert said.status_code == 200, said.text
        return str(said.json()["choices"][0]["message"]["content"])

    async def durable(self) -> list[httpx.Response]:
        """Ask for each thing that must be on disk before it is acknowledged."""
        return [
            await self.post("/v1/notifications", {"message": "full?"}),
            await self.post("/v1/reminders", {"text": "tea", "in": 3600}),
            await self.post("/plugin-callback/suno/task-0", result_of("task-0"), "token-of-task-0"),
        ]


@asynccontextmanager
async def asking(running: process.Running, key: str):
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(trust_env=False, timeout=NET_S, headers=headers) as client:
        yield Asked(running.url, client)


def check_refused(replies: list[httpx.Response]) -> None:
    for reply in replies:
        assert reply.status_code == 503, reply.text
        assert reply.json()["error"]["code"] == "storage"
        assert int(reply.headers["retry-after"]) >= 1
        assert "x-should-retry" not in reply.headers


async def refuse_and_go_on(asked: Asked, refuse: Any, allow: Any) -> None:
    before = await asked.chat()
    refuse()
    check_refused(await asked.durable())
    assert await asked.chat() == before
    check_refused(await asked.durable())
    allow()
    assert [reply.status_code // 100 for reply in await asked.durable()] == [2, 2, 2]


async def test_a_disk_that_breaks_and_heals_under_a_hub(tmp_path: Path) -> None:
    key = await make_key(tmp_path, "chat", "admin")
    record_tasks(tmp_path, 1)
    async with process.hub(tmp_path) as running, asking(running, key) as asked:
        hub = running.process
        await refuse_and_go_on(asked, lambda: stop_writing(hub), lambda: go_on_writing(hub))
        stop_writing(hub)
        check_refused([(await asked.durable())[0]])
        go_on_writing(hub)
        with trio.fail_after(NET_S):  # by itself: nobody asks for anything
            while running.said.count(b"can be written again") < 2:
                await trio.sleep(0.05)
        assert b"Traceback" not in running.said
    check_kept(tmp_path)


def check_kept(state: Path) -> None:
    """What was refused is not there, what was taken is there once."""
    with Store(state) as store:
        bodies = [notice.body for notice in Tasks(store).notices()]
        assert sum("full?" in body for body in bodies) == 1
        [[reminders]] = list(store.execute("SELECT count(*) FROM reminders"))
        assert reminders == 1


async def test_a_disk_that_is_full_and_has_room_again(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk", "4m") as disk:
        home = tmp_path / "home"
        home.mkdir()
        key = await make_key(home, "chat", "admin")
        record_tasks(home, 1)
        disk.run(f"cp -r {home}/. {disk.folder}")
        async with (
            process.process(*disk.prefix, *serve_command(disk.folder)) as running,
            asking(running, key) as asked,
        ):
            await refuse_and_go_on(asked, disk.fill, disk.empty)
            disk.fill()
            assert await running.end() == 0
        disk.fill()
        code, said = await ended(*disk.prefix, *serve_command(disk.folder))
        assert (code, "the disk is full" in said) == (1, True)
        disk.empty()
        async with process.process(*disk.prefix, *serve_command(disk.folder)) as running:
            assert running.url


async def ended(*command: str) -> tuple[int, str]:
    with trio.fail_after(NET_S):
        done = await trio.run_process(
            command, check=False, capture_stdout=True, capture_stderr=True, cwd=process.ROOT
        )
    said = done.stderr.decode()
    assert "Traceback" not in said
    assert done.stdout == b""
    return done.returncode, said


async def test_a_start_without_a_disk_is_said_and_not_a_traceback(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk", "64k") as disk:
        disk.fill()
        code, said = await ended(*disk.prefix, *serve_command(disk.folder))
        assert (code, "the disk is full" in said) == (1, True)
        disk.empty()
        disk.run(f"mount -o remount,ro {disk.folder}")
        code, said = await ended(*disk.prefix, *serve_command(disk.folder))
        assert (code, "the disk is read-only" in said) == (2, True)


async def test_a_damaged_store_stops_the_start_with_what_to_do(tmp_path: Path) -> None:
    async with process.hub(tmp_path):
        pass
    (tmp_path / "hub.sqlite3").write_bytes(b"")
    code, said = await ended(*serve_command(tmp_path))
    assert code == 1
    assert "gone or empty" in said
    assert "apexbridge restore" in said
    (tmp_path / "hub.sqlite3").write_bytes(b"no database" * 1000)
    code, said = await ended(*serve_command(tmp_path))
    assert code == 1
    assert "damaged" in said
    assert "apexbridge restore" in said
    assert (tmp_path / "hub.sqlite3").read_bytes().startswith(b"no database")


async def test_two_hubs_on_one_state_directory(tmp_path: Path) -> None:
    async with process.hub(tmp_path) as running:
        code, said = await ended(*serve_command(tmp_path))
        assert code == 2
        assert f"process {running.process.pid}" in said
        assert "stop it first" in said
        running.process.send_signal(signal.SIGKILL)
        await running.process.wait()
        async with process.process(*serve_command(tmp_path)) as again:
            assert again.url
