"""Names of hosts, looked up in threads of their own.

The C library gives a lookup no end that anybody could ask for: who stops waiting leaves a thread behind
that goes on until the name server, or the library, gives up. So these threads have a limiter of their own,
which nothing else that uses threads waits for, and a place is given back when its thread has really ended.
One name has only a part of the places, so that one name server that hangs does not stop every webhook.
"""

import socket
from collections.abc import Callable
from typing import Final

import trio

# For one lookup, the wait for a place among it: a part of an attempt (`webhook.SEND_S`).
LOOKUP_S: Final = 5.0
# Threads at a time, of all names. Who is hurt when all hang: webhooks, which are sent again later.
MOST_LOOKUPS: Final = 8
# Of these, for one name.
MOST_OF_HOST: Final = 2

Lookup = Callable[[str, int], list[str]]


class NamesBusy(OSError):
    """No place became free in time."""

    def __str__(self) -> str:
        return "its name was not looked up, as too many lookups hang"


class NameSilent(OSError):
    """Nobody said in time where the name leads."""

    def __str__(self) -> str:
        return f"nobody said within {LOOKUP_S:g} s where its name leads"


def look_up(host: str, port: int) -> list[str]:
    """Return a host's addresses; blocks for as long as the C library likes.

    Raises:
        OSError: It has none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class _Places:
    """A place of the name's and one of all: what Trio takes before a thread, and gives back after it."""

    def __init__(self, *limiters: trio.CapacityLimiter) -> None:
        self._limiters = limiters
        self.is_taken = False

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        """Take both, in order; nothing is kept if that is cut short."""
        taken: list[trio.CapacityLimiter] = []
        try:
            for limiter in self._limiters:
                await limiter.acquire_on_behalf_of(borrower)
                taken.append(limiter)
        except BaseException:  # nothing is handled: Cancelled too gives back what was taken
            for limiter in taken:
                limiter.release_on_behalf_of(borrower)
            raise
        self.is_taken = True

    def release_on_behalf_of(self, borrower: object) -> None:
        """Give both back."""
        for limiter in self._limiters:
            limiter.release_on_behalf_of(borrower)


class Names:
    """Looks names up.

    Args:
        lookup: Finds a host's addresses, in a thread.
    """

    def __init__(self, lookup: Lookup = look_up) -> None:
        self._lookup = lookup
        self._all = trio.CapacityLimiter(MOST_LOOKUPS)
        self._hosts: dict[str, trio.CapacityLimiter] = {}

    def __len__(self) -> int:
        """Threads that look something up, those that nobody waits for among them."""
        return int(self._all.borrowed_tokens)

    async def resolve(self, host: str, port: int) -> list[str]:
        """Return a host's addresses.

        Cancellation: the thread goes on, and keeps its place until it ends.

        Raises:
            NamesBusy: No place became free within `LOOKUP_S`.
            NameSilent: There is no answer within it.
            OSError: It has none.
        """
        self._forget_idle()
        own = self._hosts.setdefault(host, trio.CapacityLimiter(MOST_OF_HOST))
        places = _Places(own, self._all)
        with trio.move_on_after(LOOKUP_S):
            return await trio.to_thread.run_sync(
                self._lookup,
                host,
                port,
                limiter=places,  # type: ignore[arg-type]  # Trio takes whatever acquires and releases
                abandon_on_cancel=True,
            )
        raise NameSilent(host) if places.is_taken else NamesBusy(host)

    def _forget_idle(self) -> None:
        """Forget names that nobody looks up now: the config may name others every day."""
        for host in [one for one, limiter in self._hosts.items() if not _is_used(limiter)]:
            del self._hosts[host]


def _is_used(limiter: trio.CapacityLimiter) -> bool:
    return bool(limiter.borrowed_tokens or limiter.statistics().tasks_waiting)
