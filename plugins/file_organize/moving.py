"""Move files inside one folder, so that none is ever lost, doubled or written over."""

import ctypes
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

# linux/fs.h; the call fails with EEXIST instead of replacing.
RENAME_NOREPLACE: Final = 1

# "report.pdf", "report (2).pdf" … in one folder: past this many somebody should look.
MAX_SAME_NAME: Final = 1000

KINDS: Final = {
    "Images": "avif bmp gif heic heif ico jpeg jpg png psd raw svg tif tiff webp",
    "Documents": "csv doc docx epub md odp ods odt pdf ppt pptx rtf txt wps xls xlsx",
    "Archives": "7z bz2 deb dmg gz iso rar rpm tar tgz xz zip zst",
    "Audio": "aac aiff ape flac m4a mid mp3 ogg opus wav wma",
    "Videos": "avi flv m4v mkv mov mp4 mpg mpeg ts webm wmv",
    "Code": "c cpp css go h html java js json py rs sh sql toml ts tsx xml yaml yml",
}
_KIND_OF: Final = {suffix: kind for kind, suffixes in reversed(KINDS.items()) for suffix in suffixes.split()}
# A browser still writes to these.
UNFINISHED: Final = (".part", ".partial", ".crdownload", ".download", ".tmp")

Choose = Callable[[str, os.stat_result], str]
_libc: Final = ctypes.CDLL(None, use_errno=True)


class NameTaken(OSError):
    """There is a file of that name already."""


def folder_of_kind(name: str, _status: os.stat_result) -> str:
    """Return the folder for a file by its ending."""
    return _KIND_OF.get(Path(name).suffix[1:].lower(), "Others")


def folder_of_date(_name: str, status: os.stat_result) -> str:
    """Return the folder for a file by the month in which it was last changed, in local time."""
    return datetime.fromtimestamp(status.st_mtime).astimezone().strftime("%Y-%m")


@dataclass(frozen=True)
class Folder:
    """An open directory: what it is called may change, what is done stays inside it."""

    path: Path
    handle: int

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a directory that is none of the links it may be reached by.

        Raises:
            OSError: It is not there, or no directory.
        """
        return cls(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.handle)

    def names(self) -> list[str]:
        """Return the files to be sorted: no folders, links, hidden or unfinished ones."""
        with os.scandir(self.handle) as entries:
            return sorted(
                entry.name
                for entry in entries
                if entry.is_file(follow_symlinks=False)
                and not entry.name.startswith(".")
                and not entry.name.lower().endswith(UNFINISHED)
            )

    def status(self, name: str) -> os.stat_result:
        """Return what is known of an entry itself.

        Raises:
            OSError: It is gone.
        """
        return os.stat(name, dir_fd=self.handle, follow_symlinks=False)

    def inside(self, name: str) -> "Folder":
        """Open a folder in this one, made if it is not there; a link is not followed.

        Raises:
            OSError: Something else has the name.
        """
        with suppress(FileExistsError):  # whether it is a folder is seen next
            os.mkdir(name, dir_fd=self.handle)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        return Folder(self.path / name, os.open(name, flags, dir_fd=self.handle))


@dataclass(frozen=True)
class Move:
    """One file that was moved, or would be."""

    name: str
    folder: str
    path: str


@dataclass
class Sorter:
    """Moves the files of one folder, one at a time.

    Attributes:
        moves: What was moved, or with `is_dry` would be.
        kept: What stayed, with the reason.
    """

    folder: Folder
    choose: Choose
    is_dry: bool
    moves: list[Move] = field(default_factory=list)
    kept: list[tuple[str, str]] = field(default_factory=list)

    def sort(self, name: str) -> None:
        """Move one file; a fault of the file is recorded and the others go on."""
        try:
            status = self.folder.status(name)
            if not stat.S_ISREG(status.st_mode):
                return
            where = self.choose(name, status)
            place = name if self.is_dry else self._moved(name, where)
        except OSError as fault:
            self.kept.append((name, fault.strerror or "input or output failed"))
        else:
            self.moves.append(Move(name, where, f"{where}/{place}"))

    def _moved(self, name: str, where: str) -> str:
        with self.folder.inside(where) as target:
            for number in range(1, MAX_SAME_NAME):
                place = _numbered(name, number)
                try:
                    rename(self.folder, name, target, place)
                except NameTaken:
                    continue
                return place
        raise OSError(0, f"there are {MAX_SAME_NAME} files of that name")


def _numbered(name: str, number: int) -> str:
    if number == 1:
        return name
    path = Path(name)
    return f"{path.stem} ({number}){path.suffix}"


def rename(source: Folder, name: str, target: Folder, place: str) -> None:
    """Move a file in one step that replaces nothing.

    A file system that can not do this (some network ones) keeps its files where they are: link
    and unlink would be two steps, and an interrupt between them leaves a file twice.

    Raises:
        NameTaken: The place is taken.
        OSError: It was not moved.
    """
    failed = _libc.renameat2(
        source.handle, os.fsencode(name), target.handle, os.fsencode(place), ctypes.c_uint(RENAME_NOREPLACE)
    )
    if failed:
        number = ctypes.get_errno()
        fault = OSError(number, os.strerror(number))
        raise NameTaken(*fault.args) if isinstance(fault, FileExistsError) else fault
