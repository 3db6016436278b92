"""The live tree: everything that can be interrupted, and the only door to interrupt it.

A flight is a cancel scope with a name and a place in the tree. Work is done inside its ``with``
block; leaving the block is the proof that the work is gone, so a receipt is nothing but a record of
which blocks were left, and when. Nothing here is looked up twice or awaited in between: opening,
stopping and leaving are synchronous, so there are no locks and no moment in which the tree is wrong.

A stop travels down by itself, since the scopes of the children lie inside the parent's.

============  =====================================================
state         meaning
============  =====================================================
running       inside the block
stopping      told to stop; the block is not left yet
stopped       the block was left
============  =====================================================
"""

import math
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final, Protocol, Self

import trio

from apexbridge_trio.errors import ApexError, DeadlinePassed, Draining, Interrupted, NotFound, RequestIdTaken
from apexbridge_trio.identity import Principal
from apexbridge_trio.origin import Mark, Origin, begin, end

# Receipts are repeated to who asks again; those of this many requests are remembered (about 1 KB each).
REMEMBERED_RECEIPTS: Final = 256


class Flight:
    """One piece of work in the tree; use it as a context manager, once.

    Raises:
        Interrupted: On leaving: this flight was stopped, and its work was cut short by that.
        DeadlinePassed: On leaving: its own deadline passed first.
    """

    def __init__(
        self, flights: "Flights", name: str, kind: str, owner: Principal, parent: "Flight | None"
    ) -> None:
        self._flights = flights
        self.name = name
        self.kind = kind
        self.owner = owner
        self.parent = parent
        self.path: str = name if parent is None else f"{parent.path}/{name}"
        self.scope = trio.CancelScope()
        self.children: dict[str, Flight] = {}
        self.started_at = time.time()
        self.started = trio.current_time()
        self.ended: float | None = None
        self.stop: Stop | None = None
        # It is on disk, and goes on without this hub: a drain leaves it alone.
        self.survives = False
        # Set by who ends the work elsewhere and could not hear that it did: the block was left, the
        # work may go on, and no receipt may say otherwise.
        self.is_unconfirmed = False
        # What only this kind of work can say of its end; it is added to its branch of the receipt.
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

    def child(self, name: str, kind: str, *, timeout_s: float = math.inf) -> "Flight":
        """Make a flight below this one; a name that is taken gets a number."""
        unique, number = name, 1
        while unique in self.children:
            number += 1
            unique = f"{name}~{number}"
        flight = Flight(self._flights, unique, kind, self.owner, self)
        flight.scope.deadline = trio.current_time() + timeout_s
        self.children[unique] = flight
        return flight

    @property
    def deadline(self) -> float:
        """The nearest deadline at or above this flight, in Trio time."""
        above = self.parent.deadline if self.parent else math.inf
        return min(self.scope.deadline, above)

    @property
    def state(self) -> str:
        """``running``, ``stopping`` or ``stopped``."""
        if self.ended is not None:
            return "stopped"
        return "stopping" if any(flight.scope.cancel_called for flight in self.lineage()) else "running"

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


class Stop:
    """One interrupt of one flight: who is waited for, and what became of each.

    It is made once per flight; a second interrupt joins it.
    """

    def __init__(self, flight: Flight, reason: str) -> None:
        self.flight = flight
        self.reason = reason
        self.asked = trio.current_time()
        self._awaited = list(flight.subtree())
        self._gone = trio.Event()

    def note_end(self) -> None:
        """Record that the stopped flight was left; all below it were left before."""
        self._gone.set()

    async def over(self) -> None:
        """Wait until the flight was left."""
        await self._gone.wait()

    async def receipt(self, wait_s: float) -> dict[str, Any]:
        """Wait until everything is gone, at most `wait_s` seconds, and say what stopped and when.

        Cancellation: the interrupt goes on; only its receipt is not written.
        """
        with trio.move_on_after(wait_s):
            await self._gone.wait()
        return self.written()

    def written(self) -> dict[str, Any]:
        """Say how it stands now, as the contract's receipt."""
        branches = [self._branch(flight) for flight in self._awaited if flight.parent is not None]
        left = [flight.path for flight in self._awaited if not _is_gone(flight)]
        end = self.flight.ended or trio.current_time()
        return {
            "success": True,
            "status": "success",
            "interrupted": bool(left) or self.flight.scope.cancelled_caught,
            "requestId": self.flight.path.partition("/")[0],
            "message": self._message(len(left)),
            "state": "stopping" if left else "stopped",
            "tookMs": _ms(end - self.asked),
            "branches": branches,
            "notStopped": left,
        }

    def _message(self, left: int) -> str:
        if left:
            return f"{left} of {len(self._awaited)} have not said that they stopped."
        if self.flight.scope.cancelled_caught:
            return "Everything has stopped."
        return "It came to its own end before it could be stopped."

    def _branch(self, flight: Flight) -> dict[str, Any]:
        end = flight.ended or trio.current_time()
        state = "stopped" if _is_gone(flight) else "stopping"
        branch = {"path": flight.path, "kind": flight.kind, "state": state, "ms": _ms(end - self.asked)}
        return branch | flight.remarks


class Flights:
    """All flights of the hub, by owner's tenant and id."""

    def __init__(self) -> None:
        self._roots: dict[tuple[str, str], Flight] = {}
        # Of each request that was interrupted: its stop, and those of its branches, by path.
        self._stops: dict[tuple[str, str], dict[str, Stop]] = {}
        self._emptied: trio.Event | None = None
        self.is_draining = False
        # Who hears of each flight; set while the hub is composed.
        self.watchers: list[Watcher] = []

    def __len__(self) -> int:
        return len(self._roots)

    def open(
        self,
        request_id: str,
        kind: str,
        owner: Principal,
        *,
        timeout_s: float = math.inf,
        survives: bool = False,
    ) -> Flight:
        """Reserve an id and return its flight, to be entered at once.

        Args:
            request_id: The tenant's own name for it.
            kind: What it is, in the live tree.
            owner: Whose it is.
            timeout_s: Its deadline, from now.
            survives: It goes on without this hub, so a drain neither waits for it nor interrupts it.

        Raises:
            Draining: The hub is about to end.
            RequestIdTaken: The tenant has a flight of that id already.
        """
        if self.is_draining:
            raise Draining("The hub is about to end; ask again in a moment.", retry_after_s=5)
        key = (owner.tenant_id, request_id)
        if key in self._roots:
            raise RequestIdTaken(f"The request {request_id} is in flight already.", param="requestId")
        flight = Flight(self, request_id, kind, owner, None)
        flight.scope.deadline = trio.current_time() + timeout_s
        flight.survives = survives
        self._roots[key] = flight
        self._stops.pop(key, None)  # receipts of an earlier request are none of this one
        return flight

    def forget(self, flight: Flight) -> None:
        """Take a flight that was left out of the tree, and tell who waits for that."""
        if flight.parent is not None:
            flight.parent.children.pop(flight.name, None)
        else:
            self._roots.pop((flight.owner.tenant_id, flight.name), None)
            if self._emptied is not None and not self._mortal:
                self._emptied.set()
        if flight.stop is not None:
            flight.stop.note_end()
        for watcher in self.watchers:
            watcher.left(flight)

    @property
    def _mortal(self) -> list[Flight]:
        """What ends with this hub."""
        return [flight for flight in self._roots.values() if not flight.survives]

    async def empty(self) -> None:
        """Wait until nothing is in flight that ends with this hub."""
        while self._mortal:
            if self._emptied is None or self._emptied.is_set():
                self._emptied = trio.Event()
            await self._emptied.wait()

    def owners(self) -> set[str]:
        """Return the ids of the principals that have something in flight."""
        return {flight.owner.id for flight in self._roots.values()}

    def roots(self, principal: Principal) -> list[Flight]:
        """Return the flights the principal may see, oldest first."""
        return [flight for flight in self._roots.values() if principal.may_see(flight.owner)]

    def all(self) -> Iterator[Flight]:
        """Yield every flight there is, whoever's."""
        for root in tuple(self._roots.values()):
            yield from root.subtree()

    def find(self, path: str, principal: Principal) -> Flight:
        """Return the live flight at `path`; its first part is a request's id.

        Raises:
            NotFound: Unknown, finished, or of someone else.
        """
        name = path.partition("/")[0]
        # Two tenants may use the same id: one's own comes first.
        own = self._roots.get((principal.tenant_id, name))
        roots: list[Flight] = [*([own] if own else ()), *self._roots.values()]
        for root in roots:
            if root.name == name and principal.may_see(root.owner):
                for flight in root.subtree():
                    if flight.path == path:
                        return flight
        raise NotFound(f"Nothing with the id {path} is in flight.")

    def interrupt(self, path: str, principal: Principal, reason: str = "") -> Stop:
        """Stop what is at `path` and everything below it; returns at once.

        Joins an interrupt that is under way, and finds one that has just ended.

        Raises:
            NotFound: Unknown, finished on its own, or of someone else.
        """
        try:
            flight = self.find(path, principal)
        except NotFound:
            for stops in self._stops.values():
                if (stop := stops.get(path)) and principal.may_see(stop.flight.owner):
                    return stop
            raise
        return self.stop(flight, reason)

    def interrupt_of(self, principal_id: str, reason: str) -> list[Stop]:
        """Stop all that somebody has in flight, also what would survive this hub."""
        return [self.stop(one, reason) for one in list(self._roots.values()) if one.owner.id == principal_id]

    def interrupt_where(self, chosen: Callable[[Flight], bool], reason: str) -> list[Stop]:
        """Stop every flight that is chosen, whoever's, and what is below it; returns at once."""
        return [self.stop(flight, reason) for flight in list(self.all()) if chosen(flight)]

    def interrupt_all(self, reason: str) -> list[Stop]:
        """Stop what ends with this hub, as at the end of a drain."""
        return [self.stop(flight, reason) for flight in self._mortal]

    def stop(self, flight: Flight, reason: str) -> Stop:
        """Stop a flight and everything below it; joins a stop that is under way."""
        if flight.stop is None:
            flight.stop = Stop(flight, reason)
            request = flight.owner.tenant_id, flight.path.partition("/")[0]
            self._stops.setdefault(request, {})[flight.path] = flight.stop
            if len(self._stops) > REMEMBERED_RECEIPTS:
                del self._stops[next(iter(self._stops))]
            flight.scope.cancel(reason=f"interrupted: {reason}")
        return flight.stop


def _is_cancelled(fault: BaseException) -> bool:
    if isinstance(fault, BaseExceptionGroup):
        return all(map(_is_cancelled, fault.exceptions))
    return isinstance(fault, trio.Cancelled)


def _is_gone(flight: Flight) -> bool:
    return flight.ended is not None and not flight.is_unconfirmed


def tree_entry(flight: Flight) -> dict[str, Any]:
    """Write a flight and all below it as ``GET /v1/requests`` shows them."""
    now = trio.current_time()
    left = flight.deadline - now
    return {
        "id": flight.path,
        "kind": flight.kind,
        "name": flight.name,
        "startedAt": int(flight.started_at * 1000),
        "ageMs": _ms(now - flight.started),
        "deadlineInMs": None if math.isinf(left) else _ms(left),
        "tenantId": flight.owner.tenant_id,
        "state": flight.state,
        "children": [tree_entry(child) for child in flight.children.values()],
    }


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
