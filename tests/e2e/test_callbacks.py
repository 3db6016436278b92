"""A hybrid plugin that is a real process, in a chat of a real hub."""

import json
import os

import httpx
import trio

from tests.harness import process

SAFETY_S = 120

MANIFEST = """
name = "choir"
description = "Sings later."
type = "hybrid"
entry = "choir.py"
[limits]
allow_network = true
[async]
wait_s = 50
"""

# It answers, leaves its address and its pid behind, and stays until it is told to end.
CHOIR = """
import json, os, time
from pathlib import Path
print(json.dumps({"taskId": "song-1", "status": "pending"}), flush=True)
note = {"url": os.environ["CALLBACK_BASE_URL"], "pid": os.getpid()}
Path("note.tmp").write_text(json.dumps(note))
os.rename("note.tmp", "note.json")
time.sleep(3600)
"""


def install(state):
    folder = state / "own/choir"
    folder.mkdir(parents=True)
    (folder / "plugin.toml").write_text(MANIFEST)
    (folder / "choir.py").write_text(CHOIR)
    return folder


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def note_of(folder):
    """Poll for what the plugin leaves behind: it is another process, and only asking tells."""
    while not (folder / "note.json").exists():
        await trio.sleep(0.01)
    return json.loads((folder / "note.json").read_text())


async def test_an_interrupt_of_the_wait_ends_the_process_and_refuses_its_result(tmp_path):
    folder = install(tmp_path)
    config = f'[plugins]\ndirectories = ["{tmp_path}/own"]\n'
    async with process.provider() as provider:
        async with process.hub(tmp_path, config + process.upstream(provider.url)) as hub:
            with trio.fail_after(SAFETY_S):
                await interrupt_the_wait(hub, folder)


async def interrupt_the_wait(hub, folder):
    asked = {
        "model": "hands",
        "requestId": "r1",
        "messages": [{"role": "user", "content": "choir {}"}],
    }
    statuses = []

    async def chat(client):
        statuses.append((await client.post("/v1/chat/completions", json=asked)).status_code)

    async with httpx.AsyncClient(base_url=hub.url, trust_env=False, timeout=SAFETY_S) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(chat, client)
            note = await note_of(folder)
            half = await client.post(
                f"{note['url']}/choir/song-1", json={"status": "progress", "progress": 0.5}
            )
            assert half.status_code == 200
            assert is_alive(note["pid"])
            receipt = (await client.post("/v1/interrupt", json={"requestId": "r1", "waitS": 60})).json()
            assert not is_alive(note["pid"])
        (wait,) = [branch for branch in receipt["branches"] if branch["kind"] == "callback"]
        assert (receipt["state"], wait["path"], wait["progress"]) == (
            "stopped",
            "r1/round1/choir/callback",
            0.5,
        )
        late = await client.post(f"{note['url']}/choir/song-1", json={"status": "success"})
    assert statuses == [499]
    assert (late.status_code, late.json()["error"]["code"]) == (410, "task_interrupted")
