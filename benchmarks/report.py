"""The results as Markdown: medians over the rounds, their range, and ratios to the hub."""

import os
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from statistics import median

from benchmarks.rounds import Results, Scale
from benchmarks.running import GATEWAY_CORES, LOAD_CORES
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.sides import DIRECT, HUB, Side

_INTRODUCTION = """\
# Figures

Made by `make bench` on {day}; `make bench-peers` first installs the gateways to compare with, and
`make bench ARGS=--quick` prints a rough version of this in about a minute.

| | |
|---|---|
{facts}

In each round every side is started afresh, and each scenario visits all sides in turn, a slice each: they
are measured side by side, on the same machine in the same state. The side has {gateway} to itself; the load
and the provider, which sends prepared bytes, share {load}. Each side has one worker and its own defaults
(LiteLLM: those of its guide for production; the hub writes a line of log for each request).

A cell is the median over the rounds, then the lowest and the highest of them, then **× its ratio to the hub**
(the median of the ratios within each round). Machines are shared and noisy: read the ratios. "added" is the
difference to the provider, directly, in the same round: what it costs to have the side in between.
"""


def written(results: Results, sides: Sequence[Side], scale: Scale, today: date) -> str:
    """The whole report."""
    cores = {"gateway": f"core {_listed(GATEWAY_CORES)}", "load": f"core {_listed(LOAD_CORES)}"}
    rows = {**_facts(sides), "rounds": f"{scale.rounds}, with slices of {scale.seconds:g} s"}
    facts = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    introduction = _INTRODUCTION.format(day=today, facts=facts, **cores)
    names = [DIRECT, *(side.name for side in sides)]
    measured = {title for title, _, _ in results.figures}
    tables = [_table(scenario, names, results) for scenario in SCENARIOS if scenario.title in measured]
    notes = ["## Left out\n", *(f"- {note}" for note in results.notes), ""] if results.notes else []
    return "\n".join([introduction, *tables, *notes])


def _table(scenario: Scenario, names: Sequence[str], results: Results) -> str:
    columns = {
        column: {name: results.figures.get((scenario.title, name, column), {}) for name in names}
        for column in scenario.columns
    }
    columns |= {f"added {column}": _added(columns[column]) for column in scenario.added}
    rows = [
        f"| {name} | " + " | ".join(_cell(by_side, name) for by_side in columns.values()) + " |"
        for name in names
        if any(by_side[name] for by_side in columns.values())
    ]
    meanings = "\n".join(f"- {column}: {meaning}" for column, meaning in scenario.columns.items())
    head = f"| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}"
    return "\n".join([f"## {scenario.title}\n", head, *rows, "", meanings, ""])


def _added(by_side: Mapping[str, Mapping[int, float]]) -> dict[str, dict[int, float]]:
    direct = by_side[DIRECT]
    added = {
        name: {number: figure - direct[number] for number, figure in figures.items() if number in direct}
        for name, figures in by_side.items()
    }
    return {**added, DIRECT: {}}


def _cell(by_side: Mapping[str, Mapping[int, float]], name: str) -> str:
    figures = by_side[name]
    if not figures:
        return "–"
    values = figures.values()
    cell = _number(median(values))
    if len(values) > 1:
        cell += f" ({_number(min(values))}-{_number(max(values))})"
    hub = by_side.get(HUB, {})
    ratios = [figure / hub[number] for number, figure in figures.items() if hub.get(number, 0) > 0]
    return f"{cell} **×{_number(median(ratios))}**" if ratios and name != HUB else cell


def _number(value: float) -> str:
    """Three digits that count."""
    decimals = next((places for limit, places in ((100, 0), (10, 1), (1, 2)) if abs(value) >= limit), 3)
    return f"{value:,.{decimals}f}"


def _facts(sides: Sequence[Side]) -> dict[str, str]:
    """What these figures depend on."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text("utf-8"))
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "machine": f"{found[1] if found else platform.machine()}, {os.cpu_count()} cores, {memory_gb:.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        **{side.name: side.version for side in sides},
    }


def _listed(cores: set[int]) -> str:
    return ", ".join(str(core) for core in sorted(cores))
