"""Where plugins come from: folders and entries of the config, and what each of them holds."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from apexbridge_trio.errors import ConfigInvalid
from apexbridge_trio.plugins.opening import Opened
from apexbridge_trio.plugins.plugin import Plugin
from apexbridge_trio.plugins.supervisor import Standing


class Place(Struct, frozen=True):
    """What one folder, or one entry of the config, holds.

    Args:
        plugin: As it was opened last; None if it never could be.
        before: What it was before that, while that can not be offered yet.
        fault: Why the newest state of it could not be opened.
    """

    plugin: Plugin | None = None
    before: Plugin | None = None
    fault: str = ""

    @property
    def is_due(self) -> bool:
        """Whether the one before is offered, while a new MCP server has not said what its tools are."""
        server = self.plugin.server if self.plugin else None
        return self.before is not None and server is not None and not server.has_told

    @property
    def offered(self) -> Plugin | None:
        """What there is of it for a model."""
        return self.before if self.is_due else self.plugin

    @property
    def standing(self) -> list[Standing]:
        """What of it is to be kept up: also that of the one before, while that is offered."""
        both = {plugin for plugin in (self.plugin, self.offered) if plugin}
        return [plugin.standing for plugin in both if plugin.standing]


class Places:
    """All of them, by where they are."""

    def __init__(self) -> None:
        self._places: dict[Path, Place] = {}

    def get(self, where: Path) -> Place:
        """Return what a place holds; nothing, if it is not known."""
        return self._places.get(where, Place())

    def note(self, where: Path, found: Opened) -> bool:
        """Take what was found in a place; tells whether it is news."""
        known = self.get(where)
        if found is None:
            return self._places.pop(where, None) is not None
        if isinstance(found, ConfigInvalid):
            self._places[where] = replace(known, fault=found.message)
            return found.message != known.fault
        if found.text and known.plugin and known.plugin.text:
            found.text.follow(known.plugin.text)
        self._places[where] = Place(found, before=known.offered if found.server else None)
        return True

    def keep_only(self, directories: Collection[Path], mounts: Collection[Path]) -> None:
        """Know no more what is in none of these directories, and is none of these entries of the config."""
        self._places = {
            where: place
            for where, place in self._places.items()
            if where.parent in directories or where in mounts
        }

    def ordered(self, directories: Sequence[Path]) -> list[Place]:
        """Return what they hold: by the order of the directories, then the config's, each by name."""

        def rank(where: Path) -> tuple[int, str]:
            known = where.parent in directories
            return directories.index(where.parent) if known else len(directories), where.name

        return [self._places[where] for where in sorted(self._places, key=rank)]


def folders_of(directories: Iterable[Path]) -> tuple[list[Path], dict[Path, ConfigInvalid]]:
    """Return the folders that are in some directories, and which of those can not be looked into."""
    folders: list[Path] = []
    closed: dict[Path, ConfigInvalid] = {}
    for directory in directories:
        try:
            if directory.is_dir():
                folders += [folder for folder in sorted(directory.iterdir()) if folder.is_dir()]
        except OSError as fault:
            closed[directory] = ConfigInvalid(f"{directory}: can not look into it: {fault.strerror}")
    return folders, closed
