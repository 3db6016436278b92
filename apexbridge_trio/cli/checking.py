"""``plugins check``: a folder, loaded as the hub would load it, and nothing kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import Struct

from apexbridge_trio.cli.exits import Exit, Failure
from apexbridge_trio.intents import IntentModel
from apexbridge_trio.plugins import Plugins


class Checked(Struct, frozen=True):
    """What came of it.

    Args:
        tools: Names of the tools that a model would be offered.
        faults: File, key and reason each; empty if it is good.
    """

    tools: list[str]
    faults: list[str]


@contextmanager
def alone(folder: Path) -> Iterator[Path]:
    """Lead to a plugin's folder from a directory with nothing else in it, as the hub loads directories.

    Raises:
        Failure: There is no such folder.
    """
    real = folder.absolute()
    if not real.is_dir():
        raise Failure(f"there is no folder {folder}", Exit.NOT_FOUND)
    with TemporaryDirectory() as place:
        link = Path(place, real.name)
        link.symlink_to(real, target_is_directory=True)
        yield link


def faults_of(folder: Path) -> Checked:
    """Load one plugin and compile its sentences; the code of an inline one is imported.

    Raises:
        Failure: There is no such folder.
    """
    with alone(folder) as link, TemporaryDirectory() as state:
        found = Plugins.load([link.parent], state=Path(state), clock=lambda: datetime.now(UTC))
        faults = [fault.replace(str(link), str(folder)) for fault in found.faults]
        faults += [f"{folder}: {fault}" for fault in IntentModel(found).warm()]
        opened = found.offer.plugins.values()
        faults += [f"{folder}: {plugin.note}" for plugin in opened if not plugin.is_supported]
    if not opened and not faults:
        faults = [f"{folder}: there is neither a plugin.toml nor a plugin-manifest.json in it"]
    return Checked(list(found.tools), faults)
