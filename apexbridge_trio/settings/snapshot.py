"""What is in force at one moment."""

from msgspec import Struct

from apexbridge_trio.config import Config, Source
from apexbridge_trio.models import ModelTable


class Snapshot(Struct, frozen=True):
    """The config, and what was made of it.

    Attributes:
        source: The file it was read from.
        number: Of its revision.
    """

    config: Config
    models: ModelTable
    source: Source
    number: int

    @property
    def revision(self) -> str:
        """What it is called: a number that counts up, and what stands for the file's content."""
        return f"{self.number}-{self.source.digest}"
