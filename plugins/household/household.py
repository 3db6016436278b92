"""The household's notes: a Markdown file that people write and that models are told."""

import os
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Final

import trio

from apexbridge_trio.plugins import PluginHome

FILE: Final = "notes.md"

# All of it goes into the prompt of each chat with a model that wants it: a page or two.
MAX_BYTES: Final = 16 * 1024

HEAD: Final = "# Household\n\n"
_CLOSE: Final = 0.6


class NotesFull(Exception):
    """There is no room for more; the file was not touched."""


async def household(_arguments: dict[str, Any], home: PluginHome) -> str:
    """Return the file for a prompt; of one that somebody made too large, the beginning.

    Asked for every few seconds, and read at once: 16 KiB take less time than the way to a thread.
    """
    return read(home.state / FILE, MAX_BYTES).decode("utf-8", "replace")


async def household_notes(_arguments: dict[str, Any], home: PluginHome) -> dict[str, Any]:
    """List the notes: the lines of the file that are list items."""
    content = await trio.to_thread.run_sync(read, home.state / FILE)
    return {"notes": notes_of(content.decode("utf-8", "replace"))}


async def household_remember(arguments: dict[str, Any], home: PluginHome) -> dict[str, Any]:
    """Add a note at the end."""
    return await trio.to_thread.run_sync(remember, home.state / FILE, arguments["note"])


async def household_forget(arguments: dict[str, Any], home: PluginHome) -> dict[str, Any]:
    """Take out the one note that is meant."""
    return await trio.to_thread.run_sync(forget, home.state / FILE, arguments["note"])


def remember(path: Path, note: str) -> dict[str, Any]:
    """Add a note, once; it is one line, so nobody can write a heading or a second note with it.

    Raises:
        NotesFull: The file would be over `MAX_BYTES`; it was not touched.
        UnicodeDecodeError: It is no text; it was not touched.
    """
    text, line = read(path).decode("utf-8"), " ".join(note.split())
    notes = notes_of(text)
    if line and line not in notes:
        write(path, _ended(text or HEAD) + f"- {line}\n")
        notes.append(line)
    return {"remembered": line, "count": len(notes)}


def forget(path: Path, meant: str) -> dict[str, Any]:
    """Remove the note that is meant; with several that fit, none, and they are returned.

    Raises:
        UnicodeDecodeError: The file is no text; it was not touched.
    """
    text = read(path).decode("utf-8")
    fitting = find(notes_of(text), meant)
    if len(fitting) != 1:
        return {"forgotten": None, "candidates": fitting}
    lines = text.splitlines(keepends=True)
    write(path, "".join(line for line in lines if _note_in(line) != fitting[0]))
    return {"forgotten": fitting[0], "candidates": []}


def find(notes: list[str], meant: str) -> list[str]:
    """Return the notes that are meant: the very one, those that contain the words, or the like."""
    words = " ".join(meant.split()).casefold()
    for fits in (
        lambda note: note == words,
        lambda note: bool(words) and words in note,
        lambda note: SequenceMatcher(None, words, note).ratio() >= _CLOSE,
    ):
        if found := [note for note in notes if fits(note.casefold())]:
            return found
    return []


def notes_of(text: str) -> list[str]:
    """Return the list items of a Markdown text."""
    return [note for line in text.splitlines() if (note := _note_in(line))]


def _note_in(line: str) -> str:
    return line.strip()[2:].strip() if line.lstrip().startswith(("- ", "* ", "+ ")) else ""


def _ended(text: str) -> str:
    return text if text.endswith("\n") else f"{text}\n"


def read(path: Path, limit: int = -1) -> bytes:
    """Return the file's content, or its first `limit` bytes; without a file it is empty."""
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except FileNotFoundError:
        return b""


def write(path: Path, text: str) -> None:
    """Put a new file in the place of the old: whoever reads, or pulls the plug, sees one of the two.

    Raises:
        NotesFull: The text is over `MAX_BYTES`.
    """
    content = text.encode()
    if len(content) > MAX_BYTES:
        raise NotesFull(f"over {MAX_BYTES // 1024} KiB, some notes must go first / 备忘已满，请先删掉一些")
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
