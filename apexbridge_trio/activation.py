"""Sockets that the service manager has opened for us, and keeps while we are restarted.

systemd's ``sd_listen_fds(3)``: they are the descriptors from 3 on, ``LISTEN_FDS`` says how many,
``LISTEN_PID`` for whom, ``LISTEN_FDNAMES`` what the socket unit calls them.
"""

import os
import socket
from collections.abc import MutableMapping
from typing import Final

from apexbridge_trio.errors import ConfigInvalid

FIRST: Final = 3
# A socket unit may list any number; more than this is a mistake, and each is looked at.
MOST: Final = 64


def passed_sockets(env: MutableMapping[str, str] = os.environ) -> list[socket.socket]:
    """Take the listening sockets that were handed to this process, once: a second call finds none.

    No child inherits them, nor what names them: the environment is cleared of it.

    Raises:
        ConfigInvalid: One can not be served on; the message says which, and what to change.
    """
    pid, count, names = (env.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()) or not count:
        return []
    if not count.isdecimal() or not 0 < int(count) <= MOST:
        raise ConfigInvalid(f"LISTEN_FDS is {count[:20]!r}: from 1 to {MOST} sockets can be handed over.")
    called = dict(enumerate(names.split(":")))
    numbers = range(FIRST, FIRST + int(count))
    for number in numbers:  # all of them first: a fault with one must not leave the next to a child
        _hide(number)
    return [_taken(number, called.get(number - FIRST, "")) for number in numbers]


def _hide(number: int) -> None:
    try:
        os.set_inheritable(number, False)  # noqa: FBT003  # it takes no names
    except OSError as fault:
        raise ConfigInvalid(
            f"The service manager handed over no descriptor {number}: {fault.strerror}."
        ) from None


def _taken(number: int, name: str) -> socket.socket:
    shown = f"descriptor {number}" + (f" ({name[:100]})" if name else "")
    try:
        taken = socket.socket(fileno=number)
        listens = taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as fault:
        raise ConfigInvalid(f"The service manager's {shown} is no socket: {fault.strerror}.") from None
    families = {socket.AF_INET, socket.AF_INET6, socket.AF_UNIX}
    if taken.type != socket.SOCK_STREAM or not listens or taken.family not in families:
        raise ConfigInvalid(
            f"The service manager's {shown} takes no connections of TCP or UNIX: "
            "in the socket unit use ListenStream= and Accept=no."
        )
    return taken
