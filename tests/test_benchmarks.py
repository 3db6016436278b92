"""The benchmarks measure what they say: shapes and arithmetic here, never a time."""

import math
import sys
from datetime import date

import pytest
import trio

from benchmarks.load import Connection, Refused
from benchmarks.report import written
from benchmarks.rounds import Bench, Results, Scale
from benchmarks.running import LOAD_CORES, Running, run
from benchmarks.scenarios import SCENARIOS
from benchmarks.sides import DIRECT, GATEWAY, HUB, Side, Start, direct, own_sides
from benchmarks.slices import percentile, spread

# A safety net: what a busy machine needs for the start of each side, and for each slice.
SAFETY_S = 600.0
TINY = Scale(rounds=1, seconds=0.05, slow_streams=3)
SHOWN = [scenario for scenario in SCENARIOS if scenario.columns]


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Nothing is left out, and nothing counted as not seen, because a machine is slow."""
    for name, limit_s in {
        "rounds.SLICE_LIMIT_S": math.inf,
        "stops.CLOSE_LIMIT_S": math.inf,
        "running.START_S": SAFETY_S,
        "running.STOP_S": SAFETY_S,
        "nodes._SETTLE_S": TINY.seconds,
    }.items():
        monkeypatch.setattr(f"benchmarks.{name}", limit_s)
    monkeypatch.setattr("benchmarks.nodes.IDLE", 20)


def broken(_directory, _provider_port):
    return Start([sys.executable, "-c", "print('no such model')"], "listening", 1)


@pytest.fixture
async def alone(nursery):
    def provider(task_status):
        command = [sys.executable, "-m", "benchmarks.provider"]
        return run(command, "listening on", cores=LOAD_CORES, env={}, task_status=task_status)

    with trio.fail_after(SAFETY_S):
        running: Running = await nursery.start(provider)
    return direct(running)


async def test_each_scenario_measures_each_side_that_can_do_it():
    sides = [*own_sides(), Side("broken", "0", GATEWAY, broken)]
    bench = Bench(sides, TINY, lambda _line: None)

    with trio.fail_after(SAFETY_S):
        await bench.run()

    able = [*sides[:-1], Side(DIRECT, "", frozenset({"json", "stream"}), broken)]
    wanted = {(one.title, side.name) for one in SHOWN for side in able if one.needs in side.can}
    assert {(title, side) for title, side, _ in bench.results.figures} == wanted
    columns = {(one.title, column) for one in SHOWN for column in one.columns}
    assert {(title, column) for title, _, column in bench.results.figures} <= columns
    assert all(math.isfinite(figure) for found in bench.results.figures.values() for figure in found.values())
    closed = {
        side: found for (_, side, column), found in bench.results.figures.items() if column == "closed %"
    }
    assert closed == {HUB: {0: 100.0}, DIRECT: {0: 100.0}}
    (note,) = bench.results.notes
    assert note.startswith("broken: is left out, NotReady")
    assert "no such model" in note


async def test_a_stream_is_read_to_its_last_chunk(alone):
    counts: list[int] = []
    with trio.fail_after(SAFETY_S), Connection(alone.port) as connection:
        for _ in range(2):  # twice over one connection, so the end was found
            await connection.stream(alone.request("burst"), counts.append)
    assert sum(counts) == 2 * 1002  # the role, the words, the finish


async def test_a_refusal_is_not_a_figure(alone):
    with trio.fail_after(SAFETY_S), Connection(alone.port) as connection:
        with pytest.raises(Refused, match="unknown model"):
            await connection.ask(alone.request("nobody"))


def test_percentiles_are_nearest_ranks():
    assert [percentile(range(1, 201), percent) for percent in (50, 99, 100)] == [100, 198, 200]
    assert percentile([7.0], 99) == 7.0
    assert spread([]) == {}


def test_the_report_shows_medians_ratios_and_what_is_added():
    results = Results(notes=["Portkey gateway: not installed"])
    title = "JSON chats, 1 at a time"
    for side, figures in {DIRECT: (1.0, 1.0, 2.0), HUB: (2.0, 3.0, 4.0), "other": (4.0, 9.0, 40.0)}.items():
        results.figures[title, side, "p50 ms"] = dict(enumerate(figures))
    sides = [Side(HUB, "1", GATEWAY, broken), Side("other", "2.3", GATEWAY, broken)]

    report = written(results, sides, Scale(rounds=3), date(2026, 11, 22))

    rows = {
        cells[1].strip(): cells[2:-1] for line in report.splitlines() if len(cells := line.split("|")) > 3
    }
    assert rows["other"] == [
        *(" – ", " 9.00 (4.00-40.0) **×3.00** ", " – "),
        *(" 8.00 (3.00-38.0) **×4.00** ", " – "),
    ]
    assert rows[HUB][1] == " 3.00 (2.00-4.00) "
    assert rows[DIRECT][3] == " – "
    assert [line for line in report.splitlines() if line.startswith("## ")] == [f"## {title}", "## Left out"]
    assert "- Portkey gateway: not installed" in report
