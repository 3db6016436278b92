"""The config of a real hub: SIGHUP as systemd sees it, an edit by hand, a kill, and changes under streams."""

import os
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import trio

from tests.harness import process
from tests.harness.house import NET_S, house
from tests.prove.test_config import storm


class Manager:
    """The socket on which systemd listens."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.socket = trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    async def hear(self, start: str) -> str:
        """Return the next word that begins so."""
        with trio.fail_after(NET_S):
            while True:
                said = (await self.socket.recv(4096)).decode()
                if said.startswith(start):
                    return said


async def until(url: str, key: str, rounds: int) -> Any:
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(trust_env=False, timeout=NET_S, headers=headers) as client:
        with trio.fail_after(NET_S):
            while (said := (await client.get(f"{url}/v1/config")).json())["chat"]["max_rounds"] != rounds:
                await trio.sleep(0.05)
    return said


async def test_a_reload_is_told_to_systemd_and_a_bad_file_does_not_end_the_hub(tmp_path: Path) -> None:
    manager = Manager(tmp_path / "notify")
    await manager.socket.bind(manager.path)
    key = await process.command("keys", "create", "--state", str(tmp_path), "--scope", "admin")
    with manager.socket:
        async with process.hub(tmp_path, "", env={"NOTIFY_SOCKET": manager.path}) as hub:
            await manager.hear("READY=1")
            file = trio.Path(tmp_path / "config.toml")
            for text, rounds in (("[chat]\nmax_rounds = 3\n", 3), ("[chat]\nmax_rounds = 0\n", 3)):
                await file.write_text(text)
                hub.process.send_signal(signal.SIGHUP)
                reloading = await manager.hear("RELOADING=1")
                stamp = int(reloading.partition("MONOTONIC_USEC=")[2].split()[0])
                assert stamp > 0
                await manager.hear("READY=1")
                await until(hub.url, key, rounds)
        assert b"config.toml:2: chat.max_rounds: expected an integer >= 1" in hub.said


async def test_an_edit_is_seen_without_a_word_also_when_a_link_is_turned(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        key = home.admin.headers["Authorization"].removeprefix("Bearer ")
        folder = tmp_path / "hub"
        await trio.Path(folder / "config.toml").write_text("[chat]\nmax_rounds = 3\n")
        await until(home.hub.url, key, 3)
        # As orchestrators do it: another file is put in the place of a link.
        await trio.Path(folder / "next.toml").write_text("[chat]\nmax_rounds = 4\n")
        await trio.Path(folder / "link").symlink_to("next.toml")
        await trio.Path(folder / "link").rename(folder / "config.toml")
        await until(home.hub.url, key, 4)
        reply = await home.admin.patch(
            f"{home.hub.url}/v1/config", json={"chat": {"max_rounds": 5}}, headers={"If-Match": "*"}
        )
        assert reply.status_code == 200, reply.text
        assert await trio.Path(folder / "config.toml").is_symlink()
        assert await trio.Path(folder / "next.toml").read_text() == "[chat]\nmax_rounds = 5\n"


async def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    folder, rounds = tmp_path / "hub", 0
    async with house(tmp_path) as home:
        for rounds in range(1, 8):
            reply = await home.admin.patch(
                f"{home.hub.url}/v1/config", json={"chat": {"max_rounds": rounds}}, headers={"If-Match": "*"}
            )
            assert reply.status_code == 200, reply.text
        os.kill(home.hub.process.pid, signal.SIGKILL)
        with trio.fail_after(NET_S):
            await home.hub.process.wait()
    text = await trio.Path(folder / "config.toml").read_text()
    async with process.hub(folder, text) as hub:
        key = home.admin.headers["Authorization"].removeprefix("Bearer ")
        await until(hub.url, key, rounds)
        async with httpx.AsyncClient(trust_env=False, timeout=NET_S, headers=home.admin.headers) as client:
            history = (await client.get(f"{hub.url}/v1/config/history")).json()
        assert history[0]["revision"] == reply.json()["revision"]


async def test_a_few_changes_under_a_few_streams(tmp_path: Path) -> None:
    told = await storm(tmp_path, streams=12, changes=12, pause_s=0.02)
    assert told.broken == []
    assert told.mixed == []
    assert told.unexplained == []
    assert told.applied + told.refused == 12
    assert told.applied
