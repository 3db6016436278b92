"""Sort the files of a folder into sub-folders, and tell the hub when it is done.

The process answers at once that its task is pending, goes on working, and calls back: progress on
the way, the result at the end. Each file is moved by one `renameat2` that refuses to replace, so
whenever the work is cut short a file is at its old place or at its new one, whole, and nothing was
written over. Only the standard library is used: copy the folder to begin a plugin of your own.
"""

import json
import math
import os
import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

# The plugin runs from its folder, without the hub's package.
from callback import Callback
from moving import Folder, Sorter, folder_of_date, folder_of_kind

# A folder of ten thousand files is not told to a model file by file.
MAX_DETAILS = 200
MAX_PROGRESS = 10


class Refused(Exception):
    """The call can not be done as asked; the message is for who asked."""


def main() -> int:
    """Do one call: arguments on stdin, the answer on stdout, the result by callback."""
    arguments = json.load(sys.stdin)
    try:
        path = find_directory(str(arguments.get("directory", "")), allowed_directories(os.environ))
        folder = Folder.open(path)
    except (Refused, OSError) as fault:
        answer({"status": "error", "error": _words(fault)})
        return 0
    task_id = f"organize-{uuid.uuid4().hex}"
    answer({"taskId": task_id, "status": "pending"})
    with folder:
        organize(folder, arguments, Callback.of_environment(os.environ, task_id))
    return 0


def answer(document: dict[str, str]) -> None:
    """Write the one document that the hub reads; it may be read before this process ends."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False))
    sys.stdout.flush()


def organize(folder: Folder, arguments: dict[str, Any], callback: Callback) -> None:
    """Sort `folder` as asked and report; whatever happens, the callback says how it ended."""
    choose = folder_of_date if arguments.get("by") == "date" else folder_of_kind
    is_dry = bool(arguments.get("dry_run", False))
    try:
        names = folder.names()
        sorter = Sorter(folder, choose, is_dry=is_dry)
        step = math.ceil(len(names) / MAX_PROGRESS)
        for number, name in enumerate(names, 1):
            sorter.sort(name)
            if number % step == 0:
                callback.progress(number / len(names), f"{number} of {len(names)}")
        callback.success(result_of(sorter, folder.path.name, is_dry=is_dry))
    except OSError as fault:
        callback.failure(_words(fault))


def result_of(sorter: Sorter, name: str, *, is_dry: bool) -> dict[str, Any]:
    """Return what the callback brings: a summary, and each file's place."""
    folders = Counter(move.folder for move in sorter.moves)
    parts = ", ".join(f"{count} to {folder}" for folder, count in sorted(folders.items()))
    verb = "would be moved" if is_dry else "moved"
    kept = f"; {len(sorter.kept)} not moved" if sorter.kept else ""
    return {
        "summary": f"{name}: {len(sorter.moves)} {verb}{f' ({parts})' if parts else ''}{kept}",
        "directory": name,
        "moved": len(sorter.moves),
        "folders": dict(sorted(folders.items())),
        "dry_run": is_dry,
        "details": [{"path": move.path, "from": move.name} for move in sorter.moves[:MAX_DETAILS]],
        "kept": [{"path": name, "reason": reason} for name, reason in sorter.kept[:MAX_DETAILS]],
    }


def allowed_directories(env: os._Environ[str] | dict[str, str]) -> list[Path]:
    """Return the directories of ``ALLOWED_DIRECTORIES`` (config.env), as they really are."""
    named = [Path(one) for one in env.get("ALLOWED_DIRECTORIES", "").split(os.pathsep) if one]
    return [one.resolve() for one in named if one.is_dir()]


def find_directory(asked: str, allowed: list[Path]) -> Path:
    """Return the directory that is meant: a path, or the last name of an allowed one.

    Raises:
        Refused: It is not inside an allowed directory. Whether it exists elsewhere is not told.
    """
    if not allowed:
        raise Refused(
            "no folder may be sorted yet: write ALLOWED_DIRECTORIES=/path:/other into config.env in this"
            " plugin's state directory / 还没有可以整理的文件夹，请在插件状态目录的 config.env 里写"
            " ALLOWED_DIRECTORIES"
        )
    path = Path(asked.strip())
    if path.is_absolute():
        real = path.resolve()
        fits = [real] if real.is_dir() and any(real.is_relative_to(one) for one in allowed) else []
    else:
        fits = [one for one in allowed if one.name.casefold() == path.name.casefold()]
    if not fits:
        names = ", ".join(one.name for one in allowed)
        raise Refused(f"only these folders may be sorted: {names} / 只能整理这些文件夹：{names}")
    return fits[0]


def _words(fault: Exception) -> str:
    return fault.strerror or "input or output failed" if isinstance(fault, OSError) else str(fault)


if __name__ == "__main__":
    sys.exit(main())
