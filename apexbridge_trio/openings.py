"""What is open now: each connection and request under way, whose it is, and how it is ended.

A key that is worth nothing any more must not go on through what it has opened before. So the edge opens
each request and each WebSocket here, around all that is done for it, and whoever knows a gentler end than
being cut says so (`Opening.end`). Who asks is known only later than that, and is said here too: ending what
a key has open looks at all there is, which is as many as there are connections, and is rare.
"""

from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import trio

from apexbridge_trio.errors import KeyEnded
from apexbridge_trio.identity import Principal

# What ends by itself once it is told gets this long, for its last words to a peer; then it is cut.
LAST_WORDS_S: Final = 5.0


class Opening:
    """One request or connection; a context manager around all that is done for it, once.

    Attributes:
        principal: Who has opened it; None until that is known.
        end: Ends it, without waiting, and is told why. It is cut after `LAST_WORDS_S` all the same.
            None: there is no gentler end than being cut, at once.
        gone: Set when the block is left, from when somebody ends it.

    Raises:
        KeyEnded: On leaving: it was cut.
    """

    __slots__ = ("_openings", "_reason", "_scope", "end", "gone", "principal")

    def __init__(self, openings: "Openings") -> None:
        self._openings = openings
        self.principal: Principal | None = None
        self._scope = trio.CancelScope()
        self._reason = ""
        self.end: Callable[[str], object] | None = None
        self.gone: trio.Event | None = None

    def stop(self, reason: str) -> trio.Event:
        """End it; returns what is set once it is gone. A second time changes nothing."""
        if self.gone is None:
            self.gone = trio.Event()
            self._reason = reason
            if self.end is not None:
                self._scope.deadline = trio.current_time() + LAST_WORDS_S
                self.end(reason)
            else:
                self._scope.cancel(reason=reason)
        return self.gone

    def __enter__(self) -> Self:
        self._openings.open_now[self] = None
        self._scope.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._scope.__exit__(kind, fault, trace)
        finally:
            self._openings.open_now.pop(self, None)
            if self.gone is not None:
                self.gone.set()
        if self._scope.cancelled_caught:
            raise KeyEnded(f"This was ended: {self._reason}.")


class Openings:
    """All there is.

    Attributes:
        open_now: In the order in which they were opened.
    """

    def __init__(self) -> None:
        self.open_now: dict[Opening, None] = {}

    def __len__(self) -> int:
        return len(self.open_now)

    def new(self) -> Opening:
        """Return an opening, to be entered at once."""
        return Opening(self)

    def counts(self) -> Counter[str]:
        """Return how many each principal has open, by its id."""
        return Counter(one.principal.id for one in self.open_now if one.principal is not None)

    def stop(self, principal_id: str, reason: str, *, but: Opening | None = None) -> list[trio.Event]:
        """End all that somebody has open, but for one; returns what is set when each is gone."""
        return [
            one.stop(reason)
            for one in tuple(self.open_now)
            if one.principal is not None and one.principal.id == principal_id and one is not but
        ]
