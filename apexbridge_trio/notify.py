"""Words to the service manager: systemd's notification protocol, a datagram with lines in it."""

import os
import socket


def notify(*states: str) -> bool:
    """Tell systemd, for example ``notify("READY=1", "STATUS=listening")``. Does not block.

    Returns:
        Whether it was handed over. Without a manager, or with one that does not listen, nothing
        happens: the hub runs the same.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):  # the abstract namespace has a zero byte where a path has its slash
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as datagrams:
        try:
            datagrams.sendto("\n".join(states).encode(), address)
        except OSError:
            return False
    return True
