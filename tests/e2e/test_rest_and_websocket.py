"""Both channels together, as the seed tells it in 7.5: real processes, real sockets, one story.

A chat is asked for over HTTP and watched over WebSockets; its plugin reports progress, which is told as
notifications, and brings its result over HTTP later; a reminder fires in between; a device is gone twice.
"""

import json
from pathlib import Path
from typing import Any

import httpx
import trio

from tests.e2e.test_events import device
from tests.harness import process
from tests.harness.client import Memory
from tests.harness.house import NET_S, make_key

MANIFEST = """
name = "choir"
description = "Sings later."
type = "hybrid"
entry = "choir.py"
[limits]
allow_network = true
[async]
wait_s = 100
"""

# It answers at once, and each step of what it does then waits for a file.
CHOIR = """
import json, os, time, urllib.request
from pathlib import Path

def call_back(**said):
    request = urllib.request.Request(
        os.environ["CALLBACK_BASE_URL"] + "/choir/song-1",
        json.dumps(said).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as reply:
        assert reply.status == 200, reply.status

print(json.dumps({"taskId": "song-1", "status": "pending"}), flush=True)
for step in (1, 2, 3):
    while not Path(f"step-{step}").exists():
        time.sleep(0.01)
    call_back(status="progress", progress=step / 4, message=f"verse {step}")
while not Path("last").exists():
    time.sleep(0.01)
call_back(status="success", output={"song": "la la"})
"""


class Device:
    """A device that notes every frame it is sent, over all its connections."""

    def __init__(self, url: str, key: str) -> None:
        self.url, self.key = url, key
        self.memory = Memory()
        self.frames: list[dict[str, Any]] = []
        self._socket: Any = None

    async def run(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        """Be connected until cancelled; started means: it was greeted."""
        with trio.CancelScope() as scope:
            async with device(self.url, self.key, self.memory) as self._socket:
                await self.hear("connection_ack")
                task_status.started(scope)
                await trio.sleep_forever()

    async def hear(self, kind: str, **wanted: Any) -> dict[str, Any]:
        """Return the next frame of a kind whose data has these values, noting all before it."""
        with trio.fail_after(NET_S):
            while True:
                frame: dict[str, Any] = json.loads(await self._socket.get_message())
                self.memory.take(frame)
                if frame["type"] not in {"connection_ack", "resumed"}:
                    self.frames.append(frame)
                if frame["type"] == kind and wanted.items() <= frame["data"].items():
                    return frame


def install(state: Path) -> Path:
    folder = state / "own/choir"
    folder.mkdir(parents=True)
    (folder / "plugin.toml").write_text(MANIFEST)
    (folder / "choir.py").write_text(CHOIR)
    return folder


async def test_a_chat_a_plugin_a_reminder_and_a_device_that_is_gone_in_the_middle(tmp_path: Path) -> None:
    folder = install(tmp_path)
    toml = f'[plugins]\ndirectories = ["{tmp_path}/own"]\n'
    async with process.provider() as provider:
        async with process.hub(tmp_path, toml + process.upstream(provider.url)) as hub:
            key = await make_key(tmp_path, "chat")
            headers = {"Authorization": f"Bearer {key}"}
            steady, restless = Device(hub.url, key), Device(hub.url, key)
            async with (
                httpx.AsyncClient(
                    base_url=hub.url, trust_env=False, timeout=NET_S, headers=headers
                ) as client,
                trio.open_nursery() as nursery,
            ):
                text = await tell_the_story(client, folder, steady, restless, nursery)
                waiting = (await client.get("/v1/notifications")).json()
                nursery.cancel_scope.cancel(reason="the story is over")
    assert "la la" in text
    # The device that was gone twice has what the other has: all of it, in order, nothing twice.
    assert restless.frames == steady.frames
    numbers = [frame["seq"] for frame in restless.frames]
    assert numbers == sorted(set(numbers))
    assert restless.memory.is_whole
    assert restless.memory.texts == {"r1": text}
    assert restless.memory.ended == {"r1": "chat.completed"}
    told = [(kind, data["message"], data.get("progress")) for kind, data in restless.memory.told]
    assert told == [
        ("notification", "verse 1", 0.25),
        ("reminder", "tea", None),
        ("notification", "verse 2", 0.5),
        ("notification", "verse 3", 0.75),
    ]
    # What waits to be seen is the reminder; the song was taken by its chat, so nobody is owed it.
    assert [(notice["type"], notice["message"]) for notice in waiting] == [("reminder", "tea")]


async def tell_the_story(
    client: httpx.AsyncClient, folder: Path, steady: Device, restless: Device, nursery: trio.Nursery
) -> str:
    """Return what the chat's own client read."""
    replies: list[str] = []

    async def ask() -> None:
        words = [{"role": "user", "content": "choir {}"}]
        chat = {"model": "hands", "messages": words, "requestId": "r1", "stream": True}
        reply = await client.post("/v1/chat/completions", json=chat | {"apex": {"push": True}})
        assert reply.status_code == 200
        replies.append(reply.text)
        answered.set()

    answered = trio.Event()
    await nursery.start(steady.run)
    connection = await nursery.start(restless.run)
    nursery.start_soon(ask)
    await both(steady, restless, "chat.started", requestId="r1")
    (folder / "step-1").touch()
    await both(steady, restless, "notification", message="verse 1")
    connection.cancel(reason="the device is lost")
    reminder = {"text": "tea", "in": 0.2}
    assert (await client.post("/v1/reminders", json=reminder)).status_code == 201
    await steady.hear("reminder", message="tea")
    (folder / "step-2").touch()
    await steady.hear("notification", message="verse 2")
    connection = await nursery.start(restless.run)
    await restless.hear("notification", message="verse 2")
    connection.cancel(reason="the device is lost again")
    (folder / "step-3").touch()
    await steady.hear("notification", message="verse 3")
    connection = await nursery.start(restless.run)
    (folder / "last").touch()
    await both(steady, restless, "chat.completed", requestId="r1")
    with trio.fail_after(NET_S):
        await answered.wait()
    return said(replies[0])


async def both(steady: Device, restless: Device, kind: str, **wanted: Any) -> None:
    await steady.hear(kind, **wanted)
    await restless.hear(kind, **wanted)


def said(reply: str) -> str:
    """The text of a streamed answer."""
    lines = [line.removeprefix("data: ") for line in reply.splitlines() if line.startswith("data: {")]
    choices = [choice for line in lines for choice in json.loads(line)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)
