"""Notices that somebody edits the config's file."""

from typing import Final

import trio

from apexbridge_trio.settings.change import Origin
from apexbridge_trio.settings.settings import Settings

# The plugins' folders are watched by the kernel. Not so this file: it mostly lies beside the store,
# whose every write would wake the watcher, and it may be a link to a file somewhere else. Asking the
# kernel for three files' times once in a second costs microseconds.
LOOK_S: Final = 1.0


async def watch_file(settings: Settings) -> None:
    """Take over what is edited, and note what could not be noted, until cancelled.

    A file counts once it was the same at two looks: an editor that empties the file and then writes it
    would else be taken at its word in between, and an empty file is a good one.
    """
    taken = seen = settings.file.signature()
    while True:
        await trio.sleep(LOOK_S)
        settings.history.write_again()
        before, seen = seen, settings.file.signature()
        if seen == before and seen != taken:
            taken = seen
            await settings.reload(Origin("edit"))
