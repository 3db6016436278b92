"""Other machines, as people meet them: real hubs, real agents, real process trees."""

import json
import signal
from pathlib import Path
from typing import Any

import httpx
import trio

from tests.harness import process
from tests.harness.house import NET_S, House, house, is_alive

# Lost after three intervals; not shorter, as a node that is only slow is not to be lost.
SHORT = "[nodes]\nheartbeat_interval_s = 2.0\nrejoin_grace_s = 1.0\n"


async def until_file(path: Path, lines: int = 1) -> list[str]:
    """Wait until a file has so many lines."""
    with trio.fail_after(NET_S):
        while not path.exists() or len(found := path.read_text().splitlines()) < lines:  # noqa: ASYNC240
            await trio.sleep(0.02)
    return found


def said(reply: httpx.Response) -> str:
    """The text of a streamed answer."""
    events = [line[6:] for line in reply.text.splitlines() if line.startswith("data: {")]
    assert reply.text.rstrip().endswith("data: [DONE]")
    choices = [choice for event in events for choice in json.loads(event).get("choices", ())]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def chat(text: str, model: str = "apex-intents", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "stream": True, **fields}


async def test_a_chat_on_the_embedded_model_runs_a_tool_on_a_second_machine(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.node("attic"):
        reply = await home.post("/v1/chat/completions", chat("计算 (3+4)×2", apex={"node": "attic"}))
        assert said(reply) == "(3 + 4) × 2 = 14"
        (task,) = await home.get("/v1/tasks")
        assert (task["nodeId"], task["state"], task["attempts"]) == ("attic", "succeeded", 1)


async def spawned(home: House, url: str, tmp_path: Path) -> tuple[Any, list[int]]:
    """Start a tree of processes on a node by a chat, interrupt it, and return receipt and processes."""
    arguments = json.dumps({"folder": str(tmp_path)})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            home.post, "/v1/chat/completions", chat(f"spawn {arguments}", "hands", requestId="r1")
        )
        pids = [int(line) for line in await until_file(tmp_path / "pids", 10)]
        assert all(map(is_alive, pids))
        receipt = (await home.post("/v1/interrupt", {"requestId": "r1", "waitS": 60})).json()
        alive = [pid for pid in pids if is_alive(pid)]
        assert not alive, "stopped means that nothing runs at the node"
    assert url
    return receipt, pids


async def test_an_interrupt_ends_the_process_tree_on_the_second_machine(tmp_path: Path) -> None:
    async with process.provider() as provider:
        toml = process.upstream(provider.url, models=["tools"])
        async with house(tmp_path, toml) as home, home.node("attic"):
            receipt, _ = await spawned(home, provider.url, tmp_path)
            assert (receipt["state"], receipt["notStopped"]) == ("stopped", [])
            assert "node" in {branch["kind"] for branch in receipt["branches"]}
            (task,) = await home.get("/v1/tasks")
            assert task["state"] == "interrupted"


async def test_a_frozen_node_is_lost_its_work_moves_and_thawed_it_drops_it(tmp_path: Path) -> None:
    async with house(tmp_path, SHORT) as home, home.node("a", "--max-concurrent", "2") as frozen:
        body = {"toolArgs": {"folder": str(tmp_path), "id": "x"}, "timeout": 600_000}
        moves = (await home.post("/v1/tasks", {"toolName": "again", **body})).json()["taskId"]
        stays = (await home.post("/v1/tasks", {"toolName": "work", **body})).json()["taskId"]
        await until_file(tmp_path / "runs", 2)
        async with home.node("b"):
            frozen.send_signal(signal.SIGSTOP)
            await home.until("/v1/nodes/a", lambda node: node["status"] == "offline")
            await home.until(f"/v1/tasks/{stays}", lambda task: task["state"] == "lost")
            moved = await home.until(f"/v1/tasks/{moves}", lambda task: task["nodeId"] == "b")
            assert moved["attempts"] == 2
            await until_file(tmp_path / "runs", 3)
            frozen.send_signal(signal.SIGCONT)
            await home.until("/v1/nodes/a", lambda node: node["status"] == "online")
            # It was told to drop both, so it has nothing to answer any more.
            await home.until("/v1/nodes/a", lambda node: node["stats"]["activeTasks"] == 0)
            (tmp_path / "go").touch()
            await home.until(f"/v1/tasks/{moves}", lambda task: task["state"] == "succeeded")
        shown = await home.get(f"/v1/tasks/{stays}")
        assert [step["state"] for step in shown["history"]][-1] == "lost"
        assert len(await until_file(tmp_path / "runs", 3)) == 3


async def test_a_killed_hub_finds_its_tasks_again(tmp_path: Path) -> None:
    # An agent waits as long as the hub was away before it dials again, and a start may take long.
    toml = "[nodes]\nheartbeat_interval_s = 1.0\nrejoin_grace_s = 600\n"
    async with house(tmp_path, toml, "--bind", f"{process.own_loopback()}:0") as first:
        address = first.hub.url.removeprefix("http://")
        admin = first.admin.headers["authorization"]
        async with first.node("attic", "--max-concurrent", "8"):
            body = {"toolName": "work", "timeout": 600_000}
            ids = []
            for number in range(5):
                args = {"folder": str(tmp_path), "id": str(number)}
                ids.append((await first.post("/v1/tasks", {**body, "toolArgs": args})).json()["taskId"])
            await until_file(tmp_path / "runs", 5)
            first.hub.process.kill()
            await first.hub.process.wait()
            (tmp_path / "go").touch()
            async with process.hub(tmp_path / "hub", toml, "--bind", address) as again:
                headers = {"Authorization": admin}
                async with httpx.AsyncClient(trust_env=False, timeout=NET_S, headers=headers) as client:
                    second = House(tmp_path, again, client, first.node_key)
                    for task_id in ids:
                        await second.until(f"/v1/tasks/{task_id}", lambda task: task["endedAt"] is not None)
                    states = {(await second.get(f"/v1/tasks/{task_id}"))["state"] for task_id in ids}
                    assert states == {"succeeded"}
                    assert len(await until_file(tmp_path / "runs", 5)) == 5
