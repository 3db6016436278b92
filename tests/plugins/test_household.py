"""The household's notes."""

from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.plugins import Tool
from tests.harness.world import open_world, say
from tests.plugins.folders import SHIPPED, call_tool, home, load, shipped_module

MARKDOWN = "# Us\n\nWe live in Ulm.\n\n- bins on Tuesday\n* no nuts, for Lea\n"


@pytest.fixture
def tools(tmp_path: Path) -> dict[str, Tool]:
    return dict(load(SHIPPED, state=tmp_path).tools)


@pytest.fixture
def file(tmp_path: Path, tools: dict[str, Tool]) -> Path:
    return tmp_path / "plugins/household/notes.md"


def content(file: Path) -> bytes:
    return file.read_bytes() if file.exists() else b""


def put(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def names_beside(file: Path) -> list[str]:
    return [path.name for path in file.parent.iterdir()]


async def forget(tools: dict[str, Tool], note: str) -> Any:
    return await call_tool(tools["household_forget"], {"note": note})


async def test_notes_are_kept_in_a_file_for_people(tools: dict[str, Tool], file: Path) -> None:
    assert await call_tool(tools["household_notes"], {}) == {"notes": []}
    for note in ("bins on Tuesday", " 钥匙在\n- 鞋柜 ", "bins on Tuesday"):
        await call_tool(tools["household_remember"], {"note": note})
    assert content(file).decode() == "# Household\n\n- bins on Tuesday\n- 钥匙在 - 鞋柜\n"
    assert await call_tool(tools["household_notes"], {}) == {"notes": ["bins on Tuesday", "钥匙在 - 鞋柜"]}
    assert names_beside(file) == ["notes.md"]


async def test_what_people_write_stays_as_it_is(tools: dict[str, Tool], file: Path) -> None:
    put(file, MARKDOWN.rstrip("\n").encode())
    told = await call_tool(tools["household_remember"], {"note": "key under the pot"})
    assert told == {"remembered": "key under the pot", "count": 3}
    assert content(file).decode() == f"{MARKDOWN}- key under the pot\n"
    assert await forget(tools, "BINS ON TUESDAY") == {"forgotten": "bins on Tuesday", "candidates": []}
    assert content(file).decode() == MARKDOWN.replace("- bins on Tuesday\n", "") + "- key under the pot\n"


@pytest.mark.parametrize(
    ("meant", "forgotten", "candidates"),
    [
        ("nuts", "no nuts, for Lea", []),
        ("bins at Tuesday", "bins on Tuesday", []),
        ("for", "no nuts, for Lea", []),
        ("n", None, ["bins on Tuesday", "no nuts, for Lea"]),
        ("We live in Ulm.", None, []),
        ("  ", None, []),
    ],
)
async def test_only_the_one_that_is_meant_is_forgotten(
    tools: dict[str, Tool], file: Path, meant: str, forgotten: str | None, candidates: list[str]
) -> None:
    put(file, MARKDOWN.encode())
    assert await forget(tools, meant) == {"forgotten": forgotten, "candidates": candidates}
    assert (content(file).decode() == MARKDOWN) == (forgotten is None)


@pytest.mark.parametrize("broken", [b"- a\n" * 5000, b"- \xff\n"], ids=["too large", "no text"])
async def test_a_file_that_can_not_be_changed_whole_is_left_alone(
    tools: dict[str, Tool], file: Path, broken: bytes
) -> None:
    put(file, broken)
    with pytest.raises(ToolFailed):
        await call_tool(tools["household_remember"], {"note": "b"})
    assert content(file) == broken
    text = await shipped_module("household").household({}, home(file.parent))
    assert text.encode().startswith(broken[:2])
    assert len(text) <= 16 * 1024


@pytest.mark.parametrize("arguments", [{}, {"note": 5}])
async def test_without_a_note_nothing_is_written(
    tools: dict[str, Tool], file: Path, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ToolFailed):
        await call_tool(tools["household_remember"], arguments)
    assert content(file) == b""


async def test_a_model_that_wants_them_is_told_the_notes(tmp_path: Path, autojump_clock: object) -> None:
    model = {"id": "home", "upstream": "up", "name": "hello", "system": "Be kind.\n{{household}}\n{{other}}"}
    async with open_world(tmp_path, models=[model]) as world:
        file = tmp_path / "plugins/household/notes.md"
        for content in (b"", "- 垃圾周二收\n".encode()):
            put(file, content)
            await trio.sleep(11)  # virtual; the manifest says 10
            assert (await world.chat(say("hi", "home"))).status == 200
            first, *_ = world.provider.requests[-1].json["messages"]
            assert first["role"] == "system"
            assert first["content"] == f"Be kind.\n{content.decode()}\n{{{{other}}}}"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(notes=st.lists(st.text(min_size=1, max_size=40), max_size=6))
def test_every_note_is_one_line_and_can_be_forgotten(tmp_path: Path, notes: list[str]) -> None:
    module, path = shipped_module("household"), tmp_path / "notes.md"
    path.unlink(missing_ok=True)
    for note in notes:
        module.remember(path, note)
    kept = module.notes_of(module.read(path).decode())
    assert kept == list(dict.fromkeys(line for note in notes if (line := " ".join(note.split()))))
    for note in kept:
        assert module.forget(path, note)["forgotten"] == note
    assert module.notes_of(module.read(path).decode()) == []
