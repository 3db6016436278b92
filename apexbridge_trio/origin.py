"""Whose work runs now: so that what is said of it, such as a line of the log, is told to nobody else.

It goes with the task, as context variables do: tasks that are started inside, and threads, have it too.
A flight has its owner's; a connection that of its key. What runs for nobody, such as the hub's own
sweepers, has none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token

from msgspec import Struct

from apexbridge_trio.identity import Principal

__all__ = ["Origin", "begin", "current", "doing", "end"]


class Origin(Struct, frozen=True):
    """For whom something is done, and as part of what.

    Attributes:
        request_id: Of the flight it is in; None: it is part of no request.
    """

    owner: Principal
    request_id: str | None = None


_origin: ContextVar[Origin | None] = ContextVar("origin", default=None)

# What `end` takes.
Mark = Token[Origin | None]
current = _origin.get


def begin(origin: Origin | None) -> Mark:
    """Do what follows in this task for somebody, until `end`; None: for nobody."""
    return _origin.set(origin)


def end(mark: Mark) -> None:
    """Do what follows for whom it was done before."""
    _origin.reset(mark)


@contextmanager
def doing(owner: Principal | None, request_id: str | None = None) -> Iterator[None]:
    """Do what is inside the block for somebody, and for nobody else; None: for nobody."""
    mark = begin(None if owner is None else Origin(owner, request_id))
    try:
        yield
    finally:
        end(mark)
