"""docs/cli.md and the program say the same: every command, every option, every choice, every exit code."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from apexbridge_trio.cli.exits import Exit
from apexbridge_trio.cli.main import app_for
from tests.cli.conftest import Run

PAGE = (Path(__file__).parents[2] / "docs/cli.md").read_text("utf-8")
OPTION = re.compile(r"(--[a-z][a-z-]*)(?: ([a-z_]+(?:\|[a-z_]+)+))?")


def documented() -> dict[str, set[str]]:
    """Return each command of the page with its options; one that may be left out stands twice."""
    rows = re.findall(
        r"^\| (`[a-z].*?`) \|(?!-)", PAGE.partition("## Commands")[2].partition("\n## ")[0], re.MULTILINE
    )
    found: dict[str, set[str]] = {}
    for usage in re.findall(r"`(.+?)`", "\n".join(rows).replace("\\|", "|")):
        words, _, rest = re.match(r"((?:\[?[a-z]+\]?(?: |$))+)()(.*)", usage).groups()  # type: ignore[union-attr]
        options = {name for name, _ in OPTION.findall(rest)}
        found[words.replace("[", "").replace("]", "").strip()] = options
        if "[" in words:
            found[words.partition(" [")[0]] = options
    return found


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, TyperCommand | TyperGroup]]:
    """Yield what can be run: each command, and a group that does something alone."""
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))
    if path and (not isinstance(command, TyperGroup) or command.invoke_without_command):
        yield " ".join(path), command


def options(command: TyperCommand | TyperGroup) -> set[str]:
    named = [one for one in command.params if isinstance(one, TyperOption)]
    return {name for one in named for name in (*one.opts, *one.secondary_opts)} - {"--help"}


ALL = dict(commands(typer.main.get_command(app_for([]))))


def test_every_command_is_documented_and_no_other() -> None:
    assert documented().keys() == ALL.keys()


@pytest.mark.parametrize("name", ALL)
def test_its_options_are_those_of_the_page(name: str) -> None:
    # What is on unless it is said: only the other is worth a word.
    assert documented()[name] == options(ALL[name]) - {"--stream"}


def test_choices_are_those_of_the_program() -> None:
    told = {
        (option, frozenset(values.split("|")))
        for option, values in OPTION.findall(PAGE.replace("\\|", "|"))
        if values
    }
    has = {
        (one.opts[0], frozenset(map(str, choices)))
        for command in ALL.values()
        for one in command.params
        if (choices := getattr(one.type, "choices", None))
    }
    free = {("--level", frozenset({"info", "warning", "error"}))}  # told by the command itself
    assert told - free <= has


def test_exit_codes_are_those_of_the_page() -> None:
    told = re.findall(r"^\| (\d+) \|", PAGE.partition("## Exit codes")[2], re.MULTILINE)
    assert [int(code) for code in told] == list(Exit)


@pytest.mark.parametrize(
    "words", [(), ("keys",), ("config",), ("plugins",), ("nodes",), ("tasks",), ("reminders",), ("triggers",)]
)
def test_no_line_of_the_help_is_cut_on_a_terminal_of_80_columns(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ran = run(*words, "--help")
    _, told = ran.out.split("\nCommands:\n")
    assert [line for line in told.splitlines() if line.endswith("...") or not line.endswith(".")] == []
