"""``async_results/<plugin>/<taskId>.json`` in the state directory: results of callbacks, as they came.

A result is there whole or not at all, over any crash: it is written beside its place, brought to
the disk, renamed, and the folder with its new name is brought to the disk too. Calls block for that
(about 1 ms on an SSD, tens on a memory card), so the journal makes them in its thread.

Names come from peers. None is joined to a path before `is_file_name` has looked at it.
"""

from pathlib import Path
from typing import Final

from apexbridge_trio.errors import BadRequest
from apexbridge_trio.files import sync_folder, write_whole
from apexbridge_trio.ids import is_sane

FOLDER: Final = "async_results"
_UNFINISHED: Final = ".tmp"


def is_file_name(text: str) -> bool:
    """Tell whether an id of a peer can be one part of a path: it is sane, and no dots alone."""
    return is_sane(text) and text.strip(".") != ""


class Results:
    """The folder.

    Args:
        state: The state directory; nothing outside ``async_results`` in it is ever written.
    """

    def __init__(self, state: Path) -> None:
        self._folder = state / FOLDER
        self._make(self._folder)
        # What a crash left half written was never acknowledged.
        for unfinished in self._folder.glob(f"*/*{_UNFINISHED}"):
            unfinished.unlink()

    def keep(self, plugin: str, task_id: str, body: bytes) -> None:
        """Write a result, in place of an earlier one; it is on disk when this returns.

        Raises:
            BadRequest: A name is none; nothing was written.
            OSError: The disk is full or broken; an earlier result is still there.
        """
        path = self._path(plugin, task_id)
        self._make(path.parent)
        write_whole(path, body, path.with_name(f"{task_id}{_UNFINISHED}"))

    def find(self, plugin: str, task_id: str) -> bytes | None:
        """Return a result as it came, or None."""
        try:
            return self._path(plugin, task_id).read_bytes()
        except FileNotFoundError:
            return None

    def drop(self, plugin: str, task_id: str) -> None:
        """Delete a result, if it is there."""
        self._path(plugin, task_id).unlink(missing_ok=True)

    def _path(self, plugin: str, task_id: str) -> Path:
        for name in (plugin, task_id):
            if not is_file_name(name):
                raise BadRequest(f"{name[:200]!r} is no id: 1 to 200 of A-Z a-z 0-9 . _ : and -.")
        return self._folder / plugin / f"{task_id}.json"

    def _make(self, folder: Path) -> None:
        if not folder.is_dir():
            folder.mkdir(mode=0o700)
            sync_folder(folder.parent)
