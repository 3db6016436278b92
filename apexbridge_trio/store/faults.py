"""What a disk or the database says, in words for people; no path of the machine is in them."""

import errno
import os
from typing import Final

import apsw

from apexbridge_trio.errors import StorageFailed

# By then somebody may have made room; the hub itself looks as often (`journal.PROBE_S`).
RETRY_AFTER_S: Final = 5.0

_FULL: Final = "the disk is full"
_READ_ONLY: Final = "the disk is read-only"
_DAMAGED: Final = "its database is damaged"
_DATABASE: Final = {
    apsw.FullError: _FULL,
    apsw.ReadOnlyError: _READ_ONLY,
    apsw.CorruptError: _DAMAGED,
    apsw.NotADBError: _DAMAGED,
    apsw.CantOpenError: "its database can not be opened",
    apsw.BusyError: "another program holds its database",
    apsw.IOError: "the disk reports an error",
}
_SYSTEM: Final = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: "the disk's quota is used up",
    errno.EROFS: _READ_ONLY,
    errno.EFBIG: "a file may not grow any more",
}


def is_damage(fault: Exception) -> bool:
    """Tell whether the file itself is wrong, so that waiting does not help."""
    return isinstance(fault, apsw.CorruptError | apsw.NotADBError)


def said(fault: apsw.Error | OSError) -> str:
    """Return what is wrong, as half a sentence."""
    if isinstance(fault, OSError):
        number = fault.errno or 0
        return _SYSTEM.get(number, os.strerror(number))
    if getattr(fault, "extendedresult", None) == apsw.SQLITE_IOERR_SHMSIZE:
        return _FULL  # the file of the readers' marks can not be made
    return next((words for kind, words in _DATABASE.items() if isinstance(fault, kind)), str(fault))


def storage_failed(fault: apsw.Error | OSError, does: str) -> StorageFailed:
    """Return what a peer is told when the hub can not `does` (read, write)."""
    return StorageFailed(
        f"The hub can not {does} its store now: {said(fault)}. Nothing was changed; try again later.",
        retry_after_s=RETRY_AFTER_S,
    )
