"""The roots of the live tree, and the only door to interrupt what is in it."""

import math
from collections.abc import Callable, Iterator
from typing import Final

import trio

from apexbridge_trio.errors import Draining, NotFound, RequestIdTaken
from apexbridge_trio.flights.flight import Flight, Watcher
from apexbridge_trio.flights.stop import Stop
from apexbridge_trio.identity import Principal
from apexbridge_trio.ids import new_id

# Receipts are repeated to who asks again; those of this many requests are remembered (about 1 KB each).
REMEMBERED_RECEIPTS: Final = 256


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
        flight = Flight(self, request_id, kind, owner, None, timeout_s)
        flight.survives = survives
        self._roots[key] = flight
        self._stops.pop(key, None)  # receipts of an earlier request are none of this one
        return flight

    def open_as(
        self, request_id: str, kind: str, owner: Principal, *, prefix: str, timeout_s: float
    ) -> Flight:
        """Reserve an id that the hub has made, as `open` does.

        Whoever is of the tenant may have given a request of theirs that id: then it is another one.

        Args:
            request_id: The id.
            kind: What it is, in the live tree.
            owner: Whose it is.
            prefix: Of the other id.
            timeout_s: Its deadline, from now.

        Raises:
            Draining: The hub is about to end.
        """
        try:
            return self.open(request_id, kind, owner, timeout_s=timeout_s)
        except RequestIdTaken:
            return self.open(new_id(prefix), kind, owner, timeout_s=timeout_s)

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

    def interrupt_task(self, task_id: str, principal: Principal, reason: str = "") -> Stop:
        """Stop what is done for a task, as `interrupt` stops what is at a path.

        Raises:
            NotFound: Unknown, finished on its own, or of someone else.
        """
        stopped = (stop.flight for stops in self._stops.values() for stop in stops.values())
        for flight in (*self.all(), *stopped):
            if flight.task_id == task_id and principal.may_see(flight.owner):
                return self.stop(flight, reason)
        raise NotFound(f"Nothing is done for a task {task_id}.")

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
