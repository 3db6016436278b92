"""Tables on a terminal of 80 columns: what has to be copied is in one piece."""

import io
from collections.abc import Sequence

import pytest
from rich.console import Console

from apexbridge_trio.cli.tables import table_of

KEY = "08f4fcddac0b77af"
TASK = "task_01a225e2770d730baaf362060ccc6ffb"
AT = "2026-11-29 05:58:44"


def drawn(heads: Sequence[str], *rows: Sequence[str], width: int = 80) -> list[str]:
    screen = Console(file=io.StringIO(), width=width, highlight=False)
    screen.print(table_of(heads, rows, width), crop=False)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue().splitlines()


def test_ids_and_times_are_folded_between_words_only() -> None:
    heads = ("ID", "NAME", "TENANT", "FAMILY", "SCOPES", "CREATED", "EXPIRES", "LAST USED", "REVOKED")
    lines = drawn(heads, (KEY, "the tablet in the kitchen", "default", "", "admin chat", AT, AT, AT, ""))
    assert any(KEY in line for line in lines)
    assert sum(line.count("2026-11-29") for line in lines) == 3
    assert max(map(len, lines)) <= 80


def test_what_is_no_column_for_anybody_is_left_out() -> None:
    heads, row = drawn(("ID", "NAME", "LEFT"), ("a", "b", ""))
    assert (heads.split(), row.split()) == (["ID", "NAME"], ["a", "b"])


def test_an_empty_table_has_its_heads() -> None:
    assert [line.split() for line in drawn(("ID", "NAME"))] == [["ID", "NAME"]]


@pytest.mark.parametrize("width", [20, 40])
def test_an_id_that_is_wider_than_the_terminal_is_not_cut(width: int) -> None:
    lines = drawn(
        ("TASK", "TOOL", "ERROR"), (TASK, "calculator", "it was so many words that they fold"), width=width
    )
    assert any(TASK in line for line in lines)


def test_a_word_without_an_end_is_folded() -> None:
    lines = drawn(("ID", "TEXT"), ("a", "x" * 300))
    assert max(map(len, lines)) <= 80
    assert sum(line.count("x") for line in lines) == 300


def test_what_is_twice_as_wide_counts_twice() -> None:
    lines = drawn(("ID", "TEXT"), (TASK, "提醒我喝水" * 30))
    assert any(TASK in line for line in lines)
    assert sum(line.count("水") for line in lines) == 30
