"""What a plugin's process finds in its environment: an allow-list, its own settings, and its call.

Nothing else of the hub's environment is passed on, so no plugin sees the keys of the hub or of the
providers. A plugin's own keys are in a ``config.env`` beside its manifest, or in its state directory,
which wins.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from apexbridge_trio.errors import ConfigInvalid
from apexbridge_trio.plugins.manifest import read_bytes
from apexbridge_trio.redaction import hide

FILE: Final = "config.env"

# Where programs are, and how text and time are read. HOME is not among them: it leads to the
# owner's files, so a plugin's home is its own state directory.
ALLOWED: Final = ("PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")

_LINE: Final = re.compile(r"^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*([^\0]*?)\s*$")
_QUOTED: Final = re.compile(r"""(['"])(.*?)\1(?:\s+#.*)?""")
_COMMENT: Final = re.compile(r"\s+#.*$")
_SECRET: Final = re.compile(r"key|token|secret|password|credential", re.IGNORECASE)


def environment(folder: Path, state: Path, hub: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what every process of a plugin gets.

    Values that a name like ``…_KEY`` or ``…_TOKEN`` gives away are masked in the log from here on.

    Raises:
        ConfigInvalid: A ``config.env`` can not be read; the message names its line.
    """
    passed = {name: hub[name] for name in ALLOWED if name in hub}
    own: dict[str, str] = {}
    for place in (folder, state):
        own |= _settings(place / FILE)
    for name in filter(_SECRET.search, own):
        hide(own[name])
    fixed = {
        "HOME": str(state),
        "APEXBRIDGE_STATE": str(state),
        "PYTHONIOENCODING": "utf-8",
        "PYTHONUNBUFFERED": "1",  # an answer is read when it is written, not when a buffer is full
        "PYTHONDONTWRITEBYTECODE": "1",  # the folder of a plugin stays as it is
    }
    return fixed | passed | own


def _settings(file: Path) -> dict[str, str]:
    try:
        lines = read_bytes(file).decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        return {}
    except OSError as fault:
        raise ConfigInvalid(f"{FILE}: {fault.strerror}") from None
    except (ConfigInvalid, UnicodeDecodeError) as fault:
        raise ConfigInvalid(f"{FILE}: {fault}") from None
    return dict(_pairs(lines))


def _pairs(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        pair = _LINE.match(line)
        if pair is None:
            raise ConfigInvalid(f"{FILE}: line {number} is not NAME=value")
        yield pair[1], _value(pair[2])


def _value(text: str) -> str:
    if quoted := _QUOTED.fullmatch(text):
        return quoted[2]
    return _COMMENT.sub("", text)
