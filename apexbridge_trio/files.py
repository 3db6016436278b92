"""Files that are there whole or not at all, over any crash, and over a power cut too."""

import os
from pathlib import Path


def write_whole(path: Path, data: bytes, unfinished: Path) -> None:
    """Write a file, in place of an earlier one; it is on disk when this returns. Only its user may read it.

    Args:
        path: The file.
        data: All of it.
        unfinished: Where it is written first, in the same folder; what a crash leaves there is nobody's.

    Raises:
        OSError: The disk is full or broken; an earlier file is still there.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(unfinished, flags, 0o600), "wb") as file:  # noqa: PTH123  # opened with a mode
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring a folder's list of names to the disk: a rename alone may be lost with the power.

    Raises:
        OSError: The disk is broken.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
