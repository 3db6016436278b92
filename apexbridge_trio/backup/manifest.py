"""What a backup says of itself: each file with its size and hash, and which hub made it."""

from typing import Final

import msgspec
from msgspec import Struct

from apexbridge_trio.errors import BackupUnusable

# Of the archive's form; a hub refuses one that it does not know.
FORMAT: Final = 1
# What a house has in ten years is a tenth of it.
MOST_FILES: Final = 500_000
MOST_BYTES: Final = 128 * 1024 * 1024


class Member(Struct, frozen=True):
    """One file; `sha256` in hexadecimal."""

    path: str
    size: int
    sha256: str


class Manifest(Struct, frozen=True, kw_only=True, rename="camel"):
    """The whole backup.

    Attributes:
        program: Of the hub that made it, its version.
        schema: The version of the database.
        created_at: ISO 8601, by that hub's clock.
        config: Where the config was, if it was not in the state directory.
        missing: Results that the database knows of and that had no file.
        left_out: Secret files outside of the state directory.
    """

    format: int = FORMAT
    program: str
    schema: int
    created_at: str
    config: str = ""
    missing: int = 0
    left_out: list[str]
    files: list[Member]

    @property
    def bytes(self) -> int:
        """Of all files, as they are when restored."""
        return sum(file.size for file in self.files)


def read_manifest(content: bytes) -> Manifest:
    """Read one.

    Raises:
        BackupUnusable: It is none, or of a newer form.
    """
    try:
        head = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        form = msgspec.json.decode(head.get("format", msgspec.Raw(b"0")), type=int)
        if form != FORMAT:
            raise BackupUnusable(f"it is of form {form}; this hub knows {FORMAT}: use a newer one")
        return msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise BackupUnusable("it has no manifest that can be read") from None
