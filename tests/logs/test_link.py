"""The log channel over the real hub, on the virtual clock: who sees what, in which form, and how it ends."""

import base64
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context
from threading import Thread
from typing import Any

import pytest
import structlog
import trio
from wsproto.events import AcceptConnection

from apexbridge_trio import log
from apexbridge_trio.identity import Principal
from apexbridge_trio.logs import LogLink, Logs, Style, Wanted
from apexbridge_trio.logs.logs import MOST_WAITING
from apexbridge_trio.logs.reader import MOST_UNREAD_BYTES
from apexbridge_trio.logs.ring import MOST_BYTES
from apexbridge_trio.origin import doing
from apexbridge_trio.protocol.frames import NodeLog, TaskResultAck
from apexbridge_trio.web import sockets
from tests.harness.kill import kill_at_every_step
from tests.harness.node import FakeNode, joined, key_for
from tests.harness.viewer import FakeViewer, viewing
from tests.harness.world import open_world, say

SECRET = "correct-horse-battery"
HOUSE = Principal("house", "default")
ANNE = Principal("anne", "default", "anne")
BERT = Principal("bert", "default", "bert")
OTHER = Principal("other", "other")

said = log.get_logger("test")


@pytest.fixture(autouse=True)
def sink():
    """The real sink, at its usual level."""
    ours = structlog.get_config()
    log.configure("info", "text")
    yield
    structlog.configure(**ours)


def write(event: str, owner: Principal | None = HOUSE, request: str | None = None, **fields: Any) -> None:
    with doing(owner, request):
        said.info(event, **fields)


def defect(message: str) -> ValueError:
    """A fault that was raised, with its trace."""

    def fall_over() -> None:
        raise ValueError(message)

    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        fall_over()
    return caught.value


async def test_the_last_lines_come_first_and_then_each_as_it_is_written(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        for number in range(250):
            write(f"old {number}")
        async with viewing(world) as viewer:
            assert viewer.ack["type"] == "connection_ack"
            assert viewer.ack["data"].keys() == {"connectionId", "serverId", "message", "timestamp"}
            old = [await viewer.line() for _ in range(200)]
            assert [line["content"] for line in old] == [f"old {number}" for number in range(50, 250)]
            write("new", request="r1", why="of course")
            frame = await viewer.frame()
            stamp = frame["data"].pop("timestamp")
            assert stamp.endswith("Z")
            assert frame == {
                "type": "abp_log",
                "data": {
                    "log_type": "log",
                    "level": "info",
                    "content": 'new why="of course"',
                    "source": "test",
                    "requestId": "r1",
                },
            }
        assert len(world.hub.logs) == 0


@pytest.mark.parametrize("path", ["/ABPlog", "/log", "/VCPlog"])
@pytest.mark.parametrize("name", ["VCP_Key", "ABP_Key", "header", "subprotocol"])
async def test_each_way_to_bring_the_key(tmp_path, autojump_clock, path, name):
    async with open_world(tmp_path) as world, world.client() as http:
        key, wire = key_for(world, "logs"), FakeNode(http.stream)
        if name == "header":
            accepted = await wire.open(path, ("Authorization", f"Bearer {key}"))
        elif name == "subprotocol":
            coded = base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")
            accepted = await wire.open(path, subprotocols=["apexbridge.v1", f"bearer.{coded}"])
            assert accepted.subprotocol == "apexbridge.v1"
        else:
            accepted = await wire.open(f"{path}/{name}={key}")
        assert isinstance(accepted, AcceptConnection)
        assert (await FakeViewer(wire).frame())["type"] == "connection_ack"


@pytest.mark.parametrize(
    ("scopes", "query", "status", "said"),
    [
        (None, "", 401, "not known"),
        (["chat", "node"], "", 403, "logs or admin"),
        (["logs"], "?level=loud", 400, "loud"),
        (["logs"], "?level=", 101, ""),
        (["logs"], "?request=../../etc", 400, "request"),
        (["logs"], "?node=" + "x" * 201, 400, "node"),
        (["logs"], "?node=%0a", 400, "node"),
        (["logs"], "?" + "&".join(f"a{n}=1" for n in range(30)), 400, "too many"),
        (["admin"], "?level=WARN&request=r1&node=attic&other=1", 101, ""),
    ],
)
async def test_who_is_let_in_is_decided_before_the_upgrade(
    tmp_path, autojump_clock, scopes, query, status, said
):
    async with open_world(tmp_path) as world, world.client() as http:
        key = "apx_wrong" if scopes is None else key_for(world, *scopes)
        answer = await FakeNode(http.stream).open(f"/ABPlog/VCP_Key={key}{query}")
        if status == 101:
            assert isinstance(answer, AcceptConnection)
        else:
            assert answer[0] == status
            assert said in answer[1]["error"]["message"]
            assert key not in json.dumps(answer[1])


async def test_without_a_key_not_even_from_this_machine(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, world.client() as http:
        assert (await FakeNode(http.stream).open("/ABPlog"))[0] == 401
        assert (await world.ask("GET", "/v1/logs")).status == 401


async def test_a_hub_that_is_about_to_end_lets_nobody_in(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, world.client() as http:
        world.hub.flights.is_draining = True
        assert (await FakeNode(http.stream).open(f"/log/VCP_Key={key_for(world, 'logs')}"))[0] == 503


async def test_each_sees_what_is_its_own(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        keys = {
            "house": key_for(world, "logs"),
            "anne": key_for(world, "logs", family="anne"),
            "other": key_for(world, "logs", tenant="other"),
            "admin": key_for(world, "admin", tenant="nobody"),
        }
        for owner in (HOUSE, ANNE, BERT, OTHER, None):
            write(f"of {owner.id if owner else 'the hub'}.", owner)
        for owner in (HOUSE, ANNE, OTHER, None):
            write("end", owner)
        seen = {}
        for name, key in keys.items():
            async with viewing(world, key) as viewer:
                lines = await viewer.until("end")
                seen[name] = [line["content"] for line in lines if line["content"].startswith("of ")]
        assert seen == {
            "house": ["of house.", "of anne.", "of bert."],
            "anne": ["of anne."],
            "other": ["of other."],
            "admin": ["of house.", "of anne.", "of bert.", "of other.", "of the hub."],
        }


async def test_a_tenant_that_floods_pushes_out_no_line_of_another(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        write("ours")
        for _ in range(5000):
            write("theirs", OTHER)
            if _ % 200 == 0:
                await trio.sleep(0.01)
        async with viewing(world) as viewer:
            assert (await viewer.line())["content"] == "ours"
            write("ours too")
            assert (await viewer.frame())["data"]["content"] == "ours too"


async def test_filters_are_the_servers(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        query = "?level=warning&request=r1&node=attic"
        async with viewing(world, query=query) as viewer:
            for request in ("r1", "r2"):
                for node in ("attic", "cellar"):
                    with doing(HOUSE, request):
                        said.info("fine", node=node)
                        said.warning("careful", node=node, request_id="a connection's")
            write("end", request="r1")
            with doing(HOUSE, "r1"):
                said.error("bad", node="attic")
            lines = [await viewer.line(), await viewer.line()]
            assert [(line["content"], line["level"]) for line in lines] == [
                ("careful", "warning"),
                ("bad", "error"),
            ]
            assert {(line["requestId"], line["nodeId"]) for line in lines} == {("r1", "attic")}


async def test_a_chats_tools_are_seen_running_by_its_own_tenant_alone(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        bad = world.add_tool("broken", RuntimeError("a defect"))
        held = world.add_tool("held", hold=True)
        key, other = key_for(world, "chat"), key_for(world, "logs", tenant="other")
        async with viewing(world) as ours, viewing(world, other) as theirs:
            await world.chat(say("ping {}", "hands", requestId="r1"), f"Authorization: Bearer {key}")
            tools = [line for line in await ours.until("request") if line["log_type"] == "tool_log"]
            assert [(line["tool_name"], line["status"], line["requestId"]) for line in tools] == [
                ("ping", "executing", "r1"),
                ("ping", "success", "r1"),
            ]
            assert tools[1]["content"].startswith("the tool has run call=r1/")
            assert "pong" not in json.dumps(tools), "what a tool gives back is the chat's"
            async with world.client() as http:
                await http.chat(say("held {}", "hands", requestId="r2"), f"Authorization: Bearer {key}")
                await held.started.wait()
            await ours.until("the tool is running")
            assert (await ours.line())["status"] == "interrupted"
            assert bad.fault is not None
            await world.chat(say("broken {}", "hands", requestId="r3"), f"Authorization: Bearer {key}")
            await ours.until("the tool is running")
            end = await ours.line()
            assert (end["status"], end["level"]) == ("error", "warning")
            write("end", OTHER)
            assert (await theirs.line())["content"] == "end"


async def test_the_deprecated_path_speaks_as_legacy_viewers_expect(tmp_path, autojump_clock, monkeypatch):
    monkeypatch.setattr(sockets, "_told", set())
    async with open_world(tmp_path) as world:
        key = key_for(world, "logs")
        async with viewing(world, key, "/VCPlog") as viewer:
            welcome = "WebSocket connection successful for VCPLog."
            assert (viewer.ack["type"], viewer.ack["message"]) == ("connection_ack", welcome)
            assert "deprecated path" in (await viewer.line())["content"]
            await world.chat(say("ping {}", "hands"))
            frame = await viewer.frame()
            while "tool_name" not in frame["data"]:
                frame = await viewer.frame()
            assert frame["type"] == "vcp_log"
            assert frame["data"]["tool_name"] == "ping"
            assert frame["data"]["status"] == "executing"
            assert frame["data"]["content"]
        async with viewing(world, key, "/VCPlog") as viewer:
            write("end")
            notices = [line for line in await viewer.until("end") if "deprecated" in line["content"]]
            assert len(notices) == 1, "once per peer"


async def test_what_nodes_say_is_told_with_the_nodes_id(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, joined(world) as node, viewing(world) as viewer:
        fields = {"api_key": "hidden-by-its-name", "n": 1, "deep": {"x": ["y" * 9000]}, "z" * 5000: 1}
        await node.tell(NodeLog("warm\n2026-01-01 error forged", "WARN", fields=fields))
        line = (await viewer.until("node says"))[-1]
        assert (line["nodeId"], line["level"], line["source"]) == ("attic", "warning", "nodes")
        assert "hidden-by-its-name" not in line["content"]
        assert "\n" not in line["content"]
        assert len(line["content"]) < 2000
        for number in range(1000):
            await node.tell(NodeLog(f"flood {number}", "no such level"))
        await node.answer("task_none", 1)
        await node.hear(TaskResultAck)
        told = await viewer.until("lines of a node's log were left out")
        assert told[-1]["nodeId"] == "attic"
        assert "lines=" in told[-1]["content"]


async def test_no_secret_leaves_in_a_line(tmp_path, autojump_clock):
    log.hide(SECRET)
    async with open_world(tmp_path) as world:
        key = key_for(world, "logs")
        async with viewing(world, key) as viewer, viewing(world, key_for(world, "admin")) as admin:
            write(f"a {SECRET}", nested={SECRET: [SECRET]}, path=f"/log/VCP_Key={key}", token="apx_cb_abc")
            write("failed", exc_info=defect(f"with {SECRET}"))
            ours = [await viewer.line() for _ in range(2)]
            theirs = await admin.until("failed")
            assert SECRET not in json.dumps([ours, theirs])
            assert key not in json.dumps([ours, theirs])
            assert "apx_cb_abc" not in json.dumps([ours, theirs])
            assert "Traceback" in theirs[-1]["content"]
            assert ours[-1]["content"] == "failed\n    ValueError: with ***", "no path of the machine"


CONTROLS = "\n\r\x1b[2J\x00\x7f\x85\x9b\u2028\u202e\u2066\ud800"


async def test_no_line_can_pass_for_two(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, viewing(world) as viewer:
        write(f"a{CONTROLS}b", field=f'" level=error {CONTROLS}')
        line = await viewer.line()
        assert not set(CONTROLS) & set(line["content"]) - set("[2J")
        write("failed", exc_info=defect("one\n2026-01-01T00:00:00Z error forged"))
        _first, *rest = (await viewer.line())["content"].split("\n")
        assert all(row.startswith("    ") for row in rest)


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"type": 1}', "{" * 2000, "\ud7ff"])
async def test_a_viewer_that_says_something_is_heard_and_kept(tmp_path, autojump_clock, text):
    async with open_world(tmp_path) as world, viewing(world) as viewer:
        await viewer.wire.say('{"type": "heartbeat", "data": {}}')
        await viewer.wire.say(text)
        frame = await viewer.frame()
        assert frame["type"] == "error"
        assert frame["data"]["code"] == "invalid_frame"
        write("still here")
        assert (await viewer.line())["content"] == "still here"


async def test_a_frame_that_is_too_large_ends_it(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, viewing(world) as viewer:
        await viewer.wire.say("x" * 70_000)
        assert await viewer.wire.close_code() == 1009


async def test_watching_the_log_writes_one_line_a_connection(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        key = key_for(world, "admin")
        async with viewing(world, key) as first:
            async with viewing(world, key):
                write("a line", None)
                await first.until("a line")
                await trio.sleep(10)
            write("end", None)
            between = [line["content"] for line in await first.until("end")]
            assert len(between) == 2, "the request of the one that left, and the end"
            assert "/ABPlog/VCP_Key=***" in between[0]


class HeldSocket:
    """A viewer that takes what it is sent when the test says so."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.allowed = trio.Semaphore(0)
        self.sent = 0

    def limit(self, max_bytes: int) -> None:
        assert max_bytes == 64 * 1024

    def slow(self, messages: int) -> None:
        assert messages > 1

    def post(self, text: bytes) -> bool:
        self.taken.append(json.loads(text))
        return self.sent < 100

    async def send_all(self, texts: Sequence[bytes]) -> None:
        self.sent = len(texts)
        await self.allowed.acquire()
        self.taken += map(json.loads, texts)
        self.sent = 0

    def attend(self, heard: Callable[[], None]) -> None:
        raise AssertionError

    async def answers(self, within_s: float) -> bool:
        raise AssertionError


@asynccontextmanager
async def held_link(wanted: Wanted | None = None) -> AsyncIterator[tuple[Logs, Any, HeldSocket]]:
    """A link of a viewer that does not read, and the room it is in."""
    with Logs.opened() as logs:
        async with trio.open_nursery() as nursery:
            await nursery.start(logs.run)
            socket, (say_so, heard) = HeldSocket(), trio.open_memory_channel[dict[str, Any]](10)
            reader = logs.read(HOUSE, wanted or Wanted(), Style())
            link = LogLink(logs, reader, socket, "hub_1", 0)
            nursery.start_soon(link.run, heard.receive)
            yield logs, reader, socket
            await say_so.send({"type": "websocket.disconnect"})
            while len(logs):
                await trio.sleep(0.1)
            nursery.cancel_scope.cancel(reason="the test is over")


async def test_cut_at_any_step_nothing_of_a_viewer_is_left(autojump_clock):
    left: list[Logs] = []

    async def scenario() -> None:
        async with held_link() as (logs, _reader, socket):
            left.append(logs)
            for number in range(3):
                write(str(number))
                await trio.sleep(0.01)
            socket.allowed.release()

    async def check(is_whole: bool) -> None:
        assert all(len(logs) == 0 for logs in left)
        assert not log._taps
        left.clear()

    assert await kill_at_every_step(scenario, check) > 10


async def test_a_slow_viewer_is_told_how_many_lines_it_has_missed(autojump_clock):
    async with held_link() as (logs, reader, socket):
        for number in range(3000):
            write(f"{number}", text="x" * 1000)
            if number % 50 == 49:
                await trio.sleep(0.01)
        assert reader.unread_bytes < 1_400_000
        assert reader.missed > 0
        while reader.unread_bytes or socket.sent:
            socket.allowed.release()
            await trio.sleep(0.01)
        _ack, *frames = socket.taken
        gaps = [frame["data"]["dropped"] for frame in frames if frame["type"] == "log_gap"]
        got = [int(frame["data"]["content"].split()[0]) for frame in frames if frame["type"] == "abp_log"]
        assert sum(gaps) == reader.missed
        assert sum(gaps) + len(got) == 3000
        assert got == sorted(got)
        assert got[-1] == 2999
        # The gap stands where the lines are missing.
        place = [frame["type"] for frame in frames].index("log_gap")
        before = int(frames[place - 1]["data"]["content"].split()[0])
        after = int(frames[place + 1]["data"]["content"].split()[0])
        assert after - before - 1 == gaps[0]


async def test_nothing_grows_behind_a_viewer_that_never_reads(autojump_clock):
    async with held_link() as (logs, reader, _socket):
        for number in range(20_000):
            write("x" * 3000, OTHER if number % 2 else HOUSE)
            if number % 100 == 99:
                await trio.sleep(0.01)
            assert reader.unread_bytes <= MOST_UNREAD_BYTES
            assert len(logs._inbox) <= MOST_WAITING
        assert all(ring.bytes <= MOST_BYTES for ring in logs._rings.values())
        assert reader.missed > 9_000


async def test_a_viewer_that_floods_and_never_reads_is_closed(autojump_clock):
    async with held_link() as (logs, _reader, socket):
        socket.sent = 1000
        link = LogLink(logs, logs.read(HOUSE, Wanted(), Style()), socket, "hub_1", 0)
        say_so, heard = trio.open_memory_channel[dict[str, Any]](10)
        await say_so.send({"type": "websocket.receive", "text": "no json"})
        await link.run(heard.receive)
        assert link.code == 1013


async def test_a_thread_that_floods_loses_its_own_lines_and_all_are_counted(autojump_clock):
    with Logs.opened() as logs:
        ours = logs.read(HOUSE, Wanted(), Style())
        theirs = logs.read(OTHER, Wanted(), Style())

        def flood() -> None:
            for number in range(5000):
                write(str(number))

        # The loop does not turn meanwhile: it can look at nothing.
        thread = Thread(target=copy_context().run, args=(flood,))
        thread.start()
        thread.join()
        assert len(logs._inbox) <= MOST_WAITING + 1
        write("end", OTHER)
        async with trio.open_nursery() as nursery:
            await nursery.start(logs.run)
            got, dropped = 0, 0
            while dropped + got < 5000:
                for frame in map(json.loads, await ours.take()):
                    got += frame["type"] == "abp_log"
                    dropped += frame["data"].get("dropped", 0)
            assert dropped >= 5000 - MOST_WAITING
            [line] = await theirs.take()
            assert json.loads(line)["data"]["content"] == "end"
            nursery.cancel_scope.cancel(reason="the test is over")
    thread = Thread(target=write, args=("after the end",))
    thread.start()
    thread.join()
