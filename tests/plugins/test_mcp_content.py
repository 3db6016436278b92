"""What MCP servers answer and offer, without one of the library's own."""

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from mcp.types import CallToolResult
from msgspec.structs import replace
from trio.testing import MockClock, wait_all_tasks_blocked

from apexbridge_trio import config
from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.log import capture
from apexbridge_trio.plugins import Plugins, roster
from apexbridge_trio.plugins.manifest import Limits
from apexbridge_trio.plugins.mcp import McpServer, Mount, listing, server, stdio
from apexbridge_trio.plugins.mcp.content import output_of
from tests.harness import process
from tests.harness.clock import elapse, net
from tests.plugins.folders import SUNDAY, call_tool
from tests.plugins.programs import SAFETY_S
from tests.plugins.test_mcp import CAGE

LINK = {"type": "resource_link", "name": "manual", "uri": "https://example.org/manual"}


def value_of(*content: dict[str, Any], **fields: Any) -> Any:
    result = CallToolResult.model_validate({"content": content, **fields})
    return msgspec.json.decode(output_of(result).json)


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ([], ""),
        ([text("a"), text("b")], "a\nb"),
        ([text("[1, 2]")], [1, 2]),
        ([text("7")], "7"),
        ([LINK], "manual: https://example.org/manual"),
        ([{"type": "resource", "resource": {"uri": "x://1", "text": "within"}}], "within"),
        ([{"type": "resource", "resource": {"uri": "x://1", "blob": "AA=="}}], "x://1 (binary)"),
    ],
)
def test_what_is_said_in_words_is_a_value(content: list[dict[str, Any]], value: Any) -> None:
    assert value_of(*content) == value


def test_what_is_heard_is_a_content_part_beside_its_words() -> None:
    sound = {"type": "audio", "data": "AA==", "mimeType": "audio/wav"}
    assert value_of(text("a bell"), sound, LINK) == [
        text("a bell"),
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        text("manual: https://example.org/manual"),
    ]


def test_structured_content_is_the_result() -> None:
    assert value_of(text("{}"), structuredContent={"lamp": "on"}) == {"lamp": "on"}


@pytest.mark.parametrize(("content", "said"), [([text("no bulb")], "no bulb"), ([], "did not say why")])
def test_a_failure_is_told_in_its_own_words(content: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ToolFailed, match=said):
        value_of(*content, isError=True)


OLD = Mount("old", Limits(), CAGE, command=(sys.executable, "-m", "tests.fakes.mcp_old"), folder=process.ROOT)


class Mounted:
    """The old server, up."""

    def __init__(self, *words: str) -> None:
        self.server = McpServer(replace(OLD, command=(*OLD.command, *words)), self.note)
        self.changed = trio.Event()
        self.up = trio.Event()
        self.fault = ""

    def note(self) -> None:
        self.changed.set()

    async def run(self) -> None:
        try:
            await self.server.run(self.up.set)
        except ToolFailed as fault:
            self.fault = fault.message

    async def call(self, tool: str) -> Any:
        return await call_tool(self.server.tools[f"old_{tool}"], {})


async def test_one_of_the_older_kind_tells_its_tools_and_that_they_changed() -> None:
    old = Mounted()
    with trio.fail_after(SAFETY_S), capture() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(old.run)
            await old.up.wait()
            names = {"ping", "a_b", "grow", "flood", "gone", "listed", "deaf"}
            assert set(old.server.tools) == {f"old_{name}" for name in names}
            assert old.server.tools["old_a_b"].description == "Of both"
            old.changed = trio.Event()
            assert await old.call("grow") == "pong"
            await old.changed.wait()
            assert await old.call("new") == "pong"
            old.changed = trio.Event()
            with pytest.raises(ToolFailed, match="Session terminated"):
                await old.call("gone")
            await old.changed.wait()  # it was asked whether it is there, and it is
            nursery.cancel_scope.cancel(reason="the test is over")
    left_out = {line["tool"]: line["reason"] for line in lines if line["event"] == "tool left out"}
    assert left_out["a/b"] == "another tool of it is called old_a_b already"
    assert "no such type" in left_out["bad"]


async def test_of_a_listing_without_an_end_the_beginning_is_taken(monkeypatch: Any) -> None:
    monkeypatch.setattr(listing, "MAX_PAGES", 1)
    old = Mounted()
    with trio.fail_after(SAFETY_S), capture():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(old.run)
            await old.up.wait()
            assert set(old.server.tools) == {"old_ping", "old_a_b"}
            nursery.cancel_scope.cancel(reason="the test is over")


async def test_of_ten_thousand_tools_as_many_are_taken_as_a_request_can_have() -> None:
    old = Mounted("many")
    with trio.fail_after(SAFETY_S), capture() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(old.run)
            await old.up.wait()
            nursery.cancel_scope.cancel(reason="the test is over")
    assert len(old.server.tools) == listing.MAX_TOOLS - 3  # "bad", "a/b" and "huge"
    assert len(old.server.tools["old_wordy"].description) == listing.MAX_DESCRIPTION
    left_out = {line["tool"]: line["reason"] for line in lines if line["event"] == "tool left out"}
    assert left_out.keys() == {"bad", "a/b", "huge", "t117"}
    assert left_out["huge"] == "its schema is larger than 65536 bytes"
    assert left_out["t117"] == "it has more than 128 tools: this one and the next"


async def test_one_whose_tools_change_without_end_is_asked_now_and_then(monkeypatch: Any) -> None:
    monkeypatch.setattr(server, "REST_S", 3600.0)
    old = Mounted("restless")
    with trio.fail_after(SAFETY_S), capture() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(old.run)
            await old.up.wait()
            told = [await old.call("listed") for _ in range(20)]
            nursery.cancel_scope.cancel(reason="the test is over")
    assert told[-1] == "2"
    assert len([line for line in lines if line["event"] == "tool left out"]) == 2


async def test_one_that_does_not_tell_its_tools_again_is_ended(
    monkeypatch: Any, mock_clock: MockClock
) -> None:
    monkeypatch.setattr(server, "REST_S", 0.0)
    old = Mounted()
    with net(SAFETY_S), capture():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(old.run)
            await old.up.wait()
            await old.call("deaf")  # it has said that they are others
            await wait_all_tasks_blocked()
            elapse(mock_clock, server.LIST_S)
    assert old.fault == "The MCP server did not tell its tools within 30 s."


async def test_a_message_without_an_end_ends_the_session(monkeypatch: Any) -> None:
    monkeypatch.setattr(stdio, "MAX_MESSAGE_BYTES", 1_000_000)
    old = Mounted()
    with trio.fail_after(SAFETY_S), capture():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(old.run)
            await old.up.wait()
            with pytest.raises(ToolFailed, match="Connection closed"):
                await old.call("flood")
    assert old.fault == "The MCP server sent a message over 1000000 bytes."


def test_the_config_mounts_servers_as_folders_do(tmp_path: Path) -> None:
    state = tmp_path / "state/plugins/lamp"
    state.mkdir(parents=True)
    (state / "config.env").write_text("MCP_TOKEN=of-the-lamp\n")
    entries = [
        config.Mcp("lamp", url="http://127.0.0.1:1/mcp"),
        config.Mcp("door", url="http://127.0.0.1:1/mcp", api_key=config.Secret("of-the-door")),
        config.Mcp("time", command=["mcp-server-time"]),
    ]
    plugins = Plugins.load([], state=tmp_path / "state", clock=lambda: SUNDAY, mcp=entries)
    assert [(one["name"], one["state"], one["network"]) for one in roster(plugins)] == [
        ("door", "starting", "on"),
        ("lamp", "starting", "on"),
        ("time", "starting", "off"),
    ]
    mounts = {name: plugin.server.mount for name, plugin in plugins.offer.plugins.items() if plugin.server}
    assert mounts["time"].command == ("mcp-server-time",)
    assert mounts["time"].folder == tmp_path / "state/plugins/time"
    tokens = {name: mount.token.reveal() for name, mount in mounts.items() if mount.token}
    assert tokens == {"lamp": "of-the-lamp", "door": "of-the-door"}
    (tmp_path / "state/plugins/time/config.env").write_text("no pair\n")
    again = Plugins.load([], state=tmp_path / "state", clock=lambda: SUNDAY, mcp=entries)
    assert again.faults == ["[[plugins.mcp]]/time: config.env: line 1 is not NAME=value"]
