"""Lines, rings and filters: what is kept, what is cut, and what of it is wanted."""

import json
from traceback import format_exception
from typing import Any

import pytest
import trio

from apexbridge_trio.errors import BadRequest
from apexbridge_trio.identity import Principal
from apexbridge_trio.logs import Line, Logs, Ring, Style, Wanted
from apexbridge_trio.logs.line import MOST_CHARS
from apexbridge_trio.logs.ring import MOST_LINES
from apexbridge_trio.origin import Origin, current, doing

HOUSE = Principal("house", "t")


def line(event: str = "x", request: str | None = None, **fields: Any) -> Line:
    entry = {"timestamp": "2026-01-01T00:00:00Z", "level": "info", "event": event, "room": "r", **fields}
    return Line.of(entry, Origin(HOUSE, request))


def told(one: Line, style: Style | None = None) -> dict[str, Any]:
    frame: dict[str, Any] = json.loads((style or Style()).write(one))
    data: dict[str, Any] = frame["data"]
    return data


def test_a_ring_keeps_the_last_lines_within_its_size():
    ring = Ring(most_lines=3, most_bytes=10_000)
    for number in range(10):
        ring.add(line(str(number)))
    assert [one.entry["event"] for one in ring.lines] == ["7", "8", "9"]
    assert [one.number for one in ring.lines] == [8, 9, 10]
    ring.add(line("x" * 8000))
    assert len(ring.lines) == 3
    assert ring.bytes <= 10_000
    for _ in range(5):
        ring.add(line("x" * 8000))
        assert ring.bytes <= 10_000
    assert len(ring.lines) == 1


def test_a_short_line_is_kept_as_it_is_and_none_is_copied():
    entry = {"event": "x", "n": 1, "none": None, "yes": True, "half": 0.5, "tools": ["a", {"b": 1}]}
    one = Line.of(entry, None)
    assert one.entry is entry
    assert told(one)["content"] == 'x n=1 none=null yes=true half=0.5 tools=["a", {"b": 1}]'


@pytest.mark.parametrize(
    "fields",
    [
        {"a": "x" * 20_000},
        {f"a{number}": "x" * 1000 for number in range(30)},
        {"a": ["x" * 1000] * 30, "b": {"c": {"d": "x" * 20_000}}, "e": "x"},
        {"exception": "first\n" + "x" * 20_000 + "\nValueError: last", "a": 1},
        {"a": "\x00" * 20_000},
        {"a": "𝕏" * 20_000},
    ],
    ids=["one text", "many", "nested", "trace", "controls", "wide"],
)
def test_no_line_is_larger_than_its_bound(fields):
    one = line(**fields)
    assert one.size <= MOST_CHARS
    assert sum(len(value) for value in one.entry.values() if isinstance(value, str)) <= MOST_CHARS + len(
        fields
    )
    assert len(Style(is_whole=True).write(one)) < 8 * MOST_CHARS
    if "exception" in fields:
        assert told(one)["content"].endswith("ValueError: last")


def test_a_group_is_told_by_its_innermost_fault():
    group = ExceptionGroup("several", [RuntimeError("the one")])
    text = "".join(format_exception(group))
    assert told(line(exception=text))["content"].endswith("RuntimeError: the one")
    assert "several" in told(line(exception=text), Style(is_whole=True))["content"]
    assert "several" not in told(line(exception=text))["content"]


@pytest.mark.parametrize(
    ("level", "taken"),
    [
        ("debug", ["debug", "info", "warning", "error", "critical"]),
        ("INFO", ["info", "warning", "error", "critical"]),
        ("warn", ["warning", "error", "critical"]),
        ("error", ["error", "critical"]),
    ],
)
def test_a_level_is_the_lowest(level, taken):
    wanted = Wanted.of({"level": level})
    levels = ["debug", "info", "warning", "error", "critical"]
    assert [name for name in levels if wanted.takes(line(level=name))] == taken


def test_a_request_is_the_flights_and_else_the_lines_own():
    wanted = Wanted.of({"request": "r1"})
    assert wanted.takes(line(request="r1", request_id="c1"))
    assert wanted.takes(line(request_id="r1"))
    assert not wanted.takes(line(request="r2", request_id="r1"))
    assert not wanted.takes(line())


def test_a_node():
    assert Wanted.of({"node": "attic"}).takes(line(node="attic"))
    assert not Wanted.of({"node": "attic"}).takes(line(node="cellar"))
    assert Wanted.of({"node": "", "request": ""}) == Wanted()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("level", "loud"),
        ("level", "x" * 9999),
        ("request", "a b"),
        ("node", "ä"),
        ("node", "x" * 201),
        ("request", "a\nb"),
    ],
)
def test_what_is_no_filter_is_refused(name, value):
    with pytest.raises(BadRequest) as refused:
        Wanted.of({name: value})
    assert refused.value.param == name
    assert len(refused.value.message) < 200


def test_a_tools_line_is_one_of_a_tool():
    data = told(line("the tool has run", tool="clock", status="success", duration_ms=1.5, request_id="r1"))
    assert data == {
        "log_type": "tool_log",
        "level": "info",
        "tool_name": "clock",
        "status": "success",
        "content": "the tool has run duration_ms=1.5",
        "source": "r",
        "requestId": "r1",
        "timestamp": "2026-01-01T00:00:00Z",
    }


def test_over_server_sent_events_a_line_has_its_readers_position():
    one = line("x")
    one.seq, one.number = 70, 3
    for is_whole, number in ((True, 70), (False, 3)):
        text = Style(epoch="log_1", is_whole=is_whole).write(one).decode()
        assert text.startswith(f"id: log_1:{number}\nevent: abp_log\ndata: {{")
        assert text.endswith("}\n\n")
        assert text.count("\n") == 4
    assert Style(epoch="log_1").gap(3) == b'event: log_gap\ndata: {"type":"log_gap","data":{"dropped":3}}\n\n'


async def read_all(reader) -> tuple[list[str], int]:
    reader.end()
    said, dropped = [], 0
    while frames := await reader.take():
        for frame in map(json.loads, frames):
            dropped += frame["data"].get("dropped", 0)
            said += [frame["data"]["content"]] if frame["type"] == "abp_log" else []
    return said, dropped


async def test_who_comes_again_is_told_what_it_has_missed_and_how_much_is_gone():
    logs = Logs()
    family = Principal("anne", "t", "anne")
    for number in range(MOST_LINES + 200):
        with doing(Principal("other", "u") if number % 2 else HOUSE):
            logs.take({"level": "info", "event": str(number)})
        logs._look(10)
    style, admin = Style(), Style(is_whole=True)
    root = Principal("root", "x", None, frozenset({"admin"}))
    half = (MOST_LINES + 200) // 2

    def after(number: int, epoch: str = "") -> tuple[str, int]:
        return epoch or logs.epoch, number

    said, dropped = await read_all(logs.read(HOUSE, Wanted(), style, after=after(half - 3)))
    assert (said, dropped) == ([str(2 * number) for number in range(half - 3, half)], 0)
    said, dropped = await read_all(logs.read(root, Wanted(), admin, after=after(2 * half - 3)))
    assert (said, dropped) == ([str(number) for number in range(2 * half - 3, 2 * half)], 0)
    assert await read_all(logs.read(HOUSE, Wanted(), style, after=after(half))) == ([], 0)
    assert await read_all(logs.read(family, Wanted(), style, after=after(half - 3))) == ([], 0)
    for number in range(MOST_LINES):
        with doing(HOUSE):
            logs.take({"level": "info", "event": f"new {number}"})
        logs._look(10)
    said, dropped = await read_all(logs.read(HOUSE, Wanted(), style, after=after(half - 3)))
    assert (len(said), dropped) == (MOST_LINES, 3)
    for position in (after(1, "log_other"), after(half + MOST_LINES + 1), after(-1)):
        said, dropped = await read_all(logs.read(HOUSE, Wanted(), style, after=position))
        assert (len(said), dropped) == (200, 0)


def test_the_last_words_of_a_thread_after_the_loop_has_ended_are_no_fault():
    async def make() -> Logs:
        return Logs()

    logs = trio.run(make)
    for number in range(5000):
        logs.take({"level": "info", "event": str(number)})
    assert len(logs._inbox) <= 1025


async def test_an_origin_goes_with_the_task_and_its_threads():
    seen: list[Origin | None] = []
    with doing(HOUSE, "r1"):
        await trio.to_thread.run_sync(lambda: seen.append(current()))
        with doing(None):
            seen.append(current())
        seen.append(current())
    seen.append(current())
    assert seen == [Origin(HOUSE, "r1"), None, Origin(HOUSE, "r1"), None]


@pytest.mark.parametrize(
    "value", ["\ud800", 10**30, None, float("nan"), ["x"], "a\nb", "\x00", {"a": "\udfff"}]
)
@pytest.mark.parametrize(
    "name", ["event", "level", "room", "tool", "status", "node", "request_id", "timestamp", "exception", "x"]
)
def test_whatever_stands_in_a_line_it_can_be_told(name, value):
    """What could not would end the task that tells lines, and the hub with it."""
    fields = {"tool": "t", "status": "success", name: value}
    entry = {"timestamp": "", "level": "info", "event": "x", "room": "r", **fields}
    one = Line.of(entry, None)
    assert Wanted().takes(one)
    for style in (Style("vcp_log"), Style(is_whole=True, epoch="log_1")):
        assert b'"log_type":"tool_log"' in style.write(one)
