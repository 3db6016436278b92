"""Tables and trees on a terminal, plain in a pipe. Nothing in them is taken for markup."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from apexbridge_trio.cli.words import duration, one_line, printable

# A pipe has no width: what a script reads is never folded.
_PIPE_WIDTH = 10_000

console = Console(
    highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH
)


def table_of(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return rows under their heads; a narrow terminal folds the cells."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    return table


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their heads."""
    console.print(table_of(heads, rows))


def print_facts(facts: Mapping[str, str]) -> None:
    """Print what is known of one thing, a line for each that is; texts of several lines stay so."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for name, text in facts.items():
        if text:
            grid.add_row(name, Text(printable(text)))
    console.print(grid)


def request_tree(entry: Mapping[str, Any]) -> Tree:
    """Draw a request with all that runs below it."""
    tree = Tree(_label(entry))
    for child in entry.get("children", ()):
        tree.children.append(request_tree(child))
    return tree


def _label(entry: Mapping[str, Any]) -> Text:
    state = entry.get("state") or entry.get("status", "")
    label = Text(f"{entry['id']}  ", style="bold")
    label.append(f"{entry['kind']} {entry.get('name', '')}".strip(), style="default")
    label.append(f"  {state}", style="cyan" if state == "running" else "yellow")
    if "ageMs" in entry:
        label.append(f"  {duration(entry['ageMs'])}", style="default")
    if entry.get("deadlineInMs") is not None:
        label.append(f"  {duration(entry['deadlineInMs'])} left", style="dim")
    return label
