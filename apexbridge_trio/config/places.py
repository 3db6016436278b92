"""Where files are: what comes with the hub, its config, and its state."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from apexbridge_trio.errors import ConfigInvalid

FILE: Final = "config.toml"
_PACKAGE = Path(__file__).parents[1]
ETC: Final = Path("/etc/apexbridge")


def shipped(name: str) -> Path:
    """Return a file or folder that comes with the hub, ``config.toml`` or ``plugins``.

    A wheel has them inside the package, a checkout at its root.
    """
    packed = _PACKAGE / "shipped" / name
    return packed if packed.exists() else _PACKAGE.parent / name


def config_path(option: Path | None, state: Path, *, etc: Path = ETC) -> Path:
    """Return the config in force: the option's, the state directory's, /etc's or the shipped one."""
    if option is not None:
        return option
    found = (folder / FILE for folder in (state, etc) if is_there(folder / FILE))
    return next(found, shipped(FILE))


def is_there(path: Path) -> bool:
    """Tell whether something has this name.

    A folder, a link that leads nowhere, or what may not be looked at is there: reading it says why not, and
    nothing else silently takes its place.
    """
    try:
        path.lstat()
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True


def named(name: str, base: Path) -> Path:
    """Return the path that a name in the config means; a relative one is relative to `base`.

    Raises:
        ConfigInvalid: It begins with the home of a user who has none.
    """
    try:
        return base / Path(name).expanduser()
    except RuntimeError:
        raise ConfigInvalid(f"there is no home directory for {name[:100]!r}") from None


def read_regular(path: Path, most: int) -> bytes:
    """Return what is in a file, at most `most` bytes and one more.

    Only of a regular file: to open a pipe would wait for who writes into it, and a device has no end.

    Raises:
        ConfigInvalid: It can not be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ConfigInvalid(f"can not read {path}: it is no regular file")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(most + 1)
        finally:
            os.close(descriptor)
    except OSError as fault:
        raise ConfigInvalid(f"can not read {path}: {fault.strerror}") from None
    except ValueError:
        raise ConfigInvalid("can not read it: no file has a name with a NUL in it") from None


def state_place(option: Path | None, env: Mapping[str, str]) -> Path:
    """Return where the state directory is, or would be made."""
    return (option or _systemd_directory(env) or _state_home(env) / "apexbridge").absolute()


def state_directory(option: Path | None, env: Mapping[str, str]) -> Path:
    """Return the state directory, made with mode 0700 if it is not there.

    It is the option's, systemd's ``$STATE_DIRECTORY``, or ``apexbridge`` in the user's state home.

    Raises:
        ConfigInvalid: It can not be made.
    """
    path = state_place(option, env)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as fault:
        raise ConfigInvalid(f"can not make the state directory {path}: {fault.strerror}") from None
    return path


def _systemd_directory(env: Mapping[str, str]) -> Path | None:
    # A unit with several StateDirectory= gets them joined by colons; ours is the first.
    first = env.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(first) if first else None


def _state_home(env: Mapping[str, str]) -> Path:
    # The XDG specification says that a relative path is to be ignored.
    named = Path(env.get("XDG_STATE_HOME", ""))
    home = Path(env.get("HOME") or Path.home())
    return named if named.is_absolute() else home / ".local" / "state"
