"""Tables and trees on a terminal, plain in a pipe. Nothing in them is taken for markup."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from apexbridge_trio.cli.words import duration, one_line, printable

# A pipe has no width: what a script reads is never folded.
_PIPE_WIDTH = 10_000
# The longest word that is not folded; an id of the hub's own has a few letters less.
_WORD = 40
# Between two columns.
_GAP = 2

console = Console(
    highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH
)


def table_of(heads: Sequence[str], rows: Iterable[Sequence[str]], width: int | None = None) -> Table:
    """Return rows under their heads.

    What is no column for anybody is left out. A narrow terminal folds cells between words: what has to be
    copied, as an id is, stays in one piece.

    Args:
        heads: Of the columns.
        rows: A cell for each of them.
        width: What there is room for; None: the terminal's.
    """
    told = [[one_line(cell) for cell in row] for row in rows]
    columns = [(head, [row[number] for row in told]) for number, head in enumerate(heads)]
    kept = [(head, cells) for head, cells in columns if any(cells) or not told]
    widths = _widths([[head, *cells] for head, cells in kept], console.width if width is None else width)
    whole = sum(widths) + _GAP * (len(widths) - 1)
    table = Table(box=None, pad_edge=False, header_style="bold", width=whole)
    for (head, _), wide in zip(kept, widths, strict=True):
        table.add_column(head, overflow="fold", width=wide)
    for line in zip(*(cells for _, cells in kept), strict=True):
        table.add_row(*map(Text, line))
    return table


def _widths(columns: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return a width for each column: what it takes, or less, down to its longest word, the widest first.

    Rich shares out what is missing by what each takes, and so tears words of one while another has room.
    """
    room = width - _GAP * (len(columns) - 1)
    least = [min(_WORD, max(map(cell_len, " ".join(cells).split()), default=0)) for cells in columns]
    widths = [max(map(cell_len, cells)) for cells in columns]
    while sum(widths) > room and (wider := [at for at, wide in enumerate(widths) if wide > least[at]]):
        widest = max(wider, key=widths.__getitem__)
        widths[widest] = max(least[widest], min(widths[widest] - 1, room))
    return widths


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their heads."""
    console.print(table_of(heads, rows), crop=False)


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
