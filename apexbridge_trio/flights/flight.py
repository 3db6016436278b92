"""One piece of work that can be interrupted: a cancel scope with a name and a place in the tree."""

import math
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import trio

from apexbridge_trio.errors import ApexError, DeadlinePassed, Interrupted
from apexbridge_trio.identity import Principal
from apexbridge_trio.origin import Mark, Origin, begin, end

if TYPE_CHECKING:
    from apexbridge_trio.flights.flights import Flights
    from apexbridge_trio.flights.stop import Stop


class Flight:
    """One piece of work in the tree; use it as a context manager, once.

    Raises:
        Interrupted: On leaving: this flight was stopped, and its work was cut short by that.
        DeadlinePassed: On leaving: its own deadline passed first.
    """

    def __init__(
        self,
        flights: "Flights",
        name: str,
        kind: str,
        owner: Principal,
        parent: "Flight | None",
        timeout_s: float,
    ) -> None:
        self._flights = flights
        self.name = name
        self.kind = kind
        self.owner = owner
        self.parent = parent
        self.path: str = name if parent is None else f"{parent.path}/{name}"
        self.started = trio.current_time()
        self.scope = trio.CancelScope(deadline=self.started + timeout_s)
        self.children: dict[str, Flight] = {}
        self.started_at = time.time()
        self.ended: float | None = None
        self.stop: Stop | None = None
        # It is on disk, and goes on without this hub: a drain leaves it alone.
        self.survives = False
        # Set by who ends the work elsewhere and could not hear that it did: the block was left, the
        # work may go on, and no receipt may say otherwise.
        self.is_unconfirmed = False
        # When who does the work will end it, in Trio time, if that is sooner than the scopes say.
        self.due = math.inf
        # The task that it is, if it is one: it can be stopped by that id too.
        self.task_id = ""
        # What only this kind of work can say of itself and its end; it is added to its branch of the tree
        # and of the receipt.
        self.remarks: dict[str, Any] = {}
        # What it is about, for who watches; the names are OpenTelemetry's where it has one. No
        # content of a chat, and no key.
        self.facts: dict[str, Any] = {}
        # How it ended, once it was left: "" if well, else a code of `errors`, or "cancelled" when
        # something above it was.
        self.outcome = ""
        self._mark: Mark | None = None

    def interrupt(self, reason: str) -> "Stop":
        """Stop this and everything below it; returns at once, and joins a stop that is under way."""
        return self._flights.stop(self, reason)

    def confirm(self) -> None:
        """Note that what went on elsewhere, as far as was known, has ended now."""
        if self.is_unconfirmed and self.ended is not None:
            self.ended = trio.current_time()
        self.is_unconfirmed = False

    def child(self, name: str, kind: str, *, timeout_s: float = math.inf) -> "Flight":
        """Make a flight below this one; a name that is taken gets a number."""
        unique, number = name, 1
        while unique in self.children:
            number += 1
            unique = f"{name}~{number}"
        flight = Flight(self._flights, unique, kind, self.owner, self, timeout_s)
        self.children[unique] = flight
        return flight

    @property
    def deadline(self) -> float:
        """The nearest deadline at or above this flight, in Trio time."""
        above = self.parent.deadline if self.parent else math.inf
        return min(self.scope.deadline, self.due, above)

    @property
    def state(self) -> str:
        """``running``, ``stopping`` or ``stopped``."""
        if self.ended is not None:
            return "stopped"
        return "stopping" if any(flight.scope.cancel_called for flight in self.lineage()) else "running"

    @property
    def is_gone(self) -> bool:
        """Whether it was left, and nothing of it may go on elsewhere."""
        return self.ended is not None and not self.is_unconfirmed

    def lineage(self) -> Iterator["Flight"]:
        """Yield this flight and those above it."""
        flight: Flight | None = self
        while flight is not None:
            yield flight
            flight = flight.parent

    def subtree(self) -> Iterator["Flight"]:
        """Yield this flight and all below it."""
        yield self
        for child in self.children.values():
            yield from child.subtree()

    def __enter__(self) -> Self:
        self.scope.__enter__()
        self._mark = begin(Origin(self.owner, self.path.partition("/")[0]))
        for watcher in self._flights.watchers:
            watcher.begun(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended = trio.current_time()
        assert self._mark is not None
        end(self._mark)
        try:
            self.scope.__exit__(kind, fault, trace)
        finally:
            self.outcome = self._outcome(fault)
            self._flights.forget(self)
        if not self.scope.cancelled_caught:
            return
        if self.stop is not None:
            raise Interrupted(f"Interrupted: {self.stop.reason}" if self.stop.reason else "Interrupted.")
        raise DeadlinePassed("The deadline of the request has passed.")

    def _outcome(self, fault: BaseException | None) -> str:
        if self.scope.cancelled_caught:
            return Interrupted.code if self.stop is not None else DeadlinePassed.code
        if fault is None:
            return ""
        if isinstance(fault, ApexError):
            return fault.code
        return "cancelled" if _is_cancelled(fault) else "internal_error"


class Watcher(Protocol):
    """Hears of each flight; it does not await, and its faults would be the flight's."""

    def begun(self, flight: Flight) -> None:
        """Hear that a flight was entered."""
        ...

    def left(self, flight: Flight) -> None:
        """Hear that a flight was left; `Flight.outcome` says how."""
        ...


def _is_cancelled(fault: BaseException) -> bool:
    if isinstance(fault, BaseExceptionGroup):
        return all(map(_is_cancelled, fault.exceptions))
    return isinstance(fault, trio.Cancelled)


def tree_entry(flight: Flight) -> dict[str, Any]:
    """Write a flight and all below it as ``GET /v1/requests`` shows them."""
    now = trio.current_time()
    left = flight.deadline - now
    return flight.remarks | {
        "id": flight.path,
        "kind": flight.kind,
        "name": flight.name,
        "startedAt": int(flight.started_at * 1000),
        "ageMs": milliseconds(now - flight.started),
        "deadlineInMs": None if math.isinf(left) else milliseconds(left),
        "tenantId": flight.owner.tenant_id,
        "state": flight.state,
        "children": [tree_entry(child) for child in flight.children.values()],
    }


def milliseconds(seconds: float) -> int:
    """Return a time in whole milliseconds, as peers are told it."""
    return round(seconds * 1000)
