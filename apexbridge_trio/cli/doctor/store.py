"""The database: whose it is, and whether a hub could start with it. Only a copy is looked through."""

import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from apexbridge_trio.cli.doctor.files import is_read_only
from apexbridge_trio.cli.doctor.finding import Finding, Said, fail, ok, owner_of, warn
from apexbridge_trio.errors import StoreUnusable
from apexbridge_trio.results import FOLDER
from apexbridge_trio.store import FILE, Store

# What SQLite has beside the file: what is not in it yet.
_BESIDE: Final = "-wal"
# Of looking through it: a gigabyte from an SSD.
CHECK_S: Final = 10.0
# A copy of more than this is not made only to be looked at; `backup` reads all of it.
LARGEST_BYTES: Final = 1024**3

_BACK_UP: Final = Said("apexbridge backup FILE reads all of it.", "用 apexbridge backup FILE 可以完整检查。")


def store_findings(state: Path, holder: str | None) -> Iterator[Finding]:
    """Look at the database, if there is one or has been one.

    Args:
        state: The state directory.
        holder: The hub that runs there, which has looked at it itself; None: there is none.
    """
    file = state / FILE
    if not file.exists() and not (state / FOLDER).is_dir():
        return
    if is_read_only(state):
        return  # it was told
    yield from _owned(state)
    if not file.exists():
        yield _unusable(
            "it is gone, though a hub has kept things beside it", "数据库文件不见了，旁边却有 hub 保存的内容"
        )
    elif not os.access(file, os.R_OK | os.W_OK):
        said = Said(f"{file} can not be written", f"{file} 无法写入")
        who = owner_of(file)
        yield fail("store", said, Said(f"It is of user {who}: chown it.", f"属主为 {who}，请用 chown 修改。"))
    elif file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        said = Said(f"{file} is open to other users", f"{file} 对其他用户开放")
        yield warn("store", said, Said(f"chmod 600 {file}", f"chmod 600 {file}"))
    elif holder is not None:
        yield ok("store", f"{file.name} is in use by the hub", f"{file.name} 正由 hub 使用")
    else:
        yield _looked_through(file, was_used=(state / FOLDER).is_dir())


def _owned(state: Path) -> Iterator[Finding]:
    """Look for files that a command of another user, mostly root, has left to the hub."""
    of = state.stat()
    for name in (FILE, f"{FILE}{_BESIDE}", f"{FILE}-shm", "config.toml"):
        path = state / name
        if path.exists() and not path.is_symlink() and path.stat().st_uid != of.st_uid:
            said = Said(
                f"{path} is of user {owner_of(path)}, the directory of {owner_of(state)}",
                f"{path} 属于用户 {owner_of(path)}，目录属于 {owner_of(state)}",
            )
            cure = f"chown {owner_of(state)} {path}"
            yield fail("store", said, Said(cure, cure))


def _looked_through(file: Path, *, was_used: bool) -> Finding:
    beside = file.with_name(f"{file.name}{_BESIDE}")
    size = sum(one.stat().st_size for one in (file, beside) if one.exists())
    if size > LARGEST_BYTES:
        return warn(
            "store",
            Said(f"{size >> 20} MiB were not looked through", f"未检查（{size >> 20} MiB）"),
            _BACK_UP,
        )
    try:
        with TemporaryDirectory() as place:
            for one in (file, beside):
                if one.exists():
                    shutil.copyfile(one, Path(place) / one.name)
            Store(Path(place), check_s=CHECK_S, was_used=was_used).close()
    except StoreUnusable as fault:
        # Without what it says to do: that is the hint's.
        told = re.split(r"; (?:nothing|put a backup|the hub's user)", str(fault).replace(f"{place}/", ""))[0]
        return _unusable(told, told)
    except OSError as fault:
        said = Said(f"it was not looked through: {fault.strerror}", f"未检查：{fault.strerror}")
        return warn("store", said, _BACK_UP)
    return ok("store", f"{file.name} can be written, and is whole", f"{file.name} 可以写入，内容完整")


def _unusable(en: str, zh: str) -> Finding:
    hint = Said(
        "apexbridge restore FILE --force puts a backup in its place; docs/care.md tells of more.",
        "用 apexbridge restore FILE --force 恢复备份；详见 docs/care.md。",
    )
    return fail(
        "store", Said(f"no hub starts with this database: {en}", f"hub 无法使用此数据库启动：{zh}"), hint
    )
