"""Chats that nobody waits for: they run under the hub, and their results are kept for a while.

Each has a task of its own in the hub's nursery, and then its result has one, so a result has an
owner like everything else, and a drain that cancels the nursery forgets them all. They are two
because the first holds the request, which may be large, and the second lives longer.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import trio
from msgspec import Raw, Struct

from apexbridge_trio.errors import ApexError, InternalFault, Interrupted, NotFound, Overloaded
from apexbridge_trio.flights import Flight, Flights
from apexbridge_trio.identity import Principal
from apexbridge_trio.limits import Held
from apexbridge_trio.log import get_logger
from apexbridge_trio.origin import doing
from apexbridge_trio.protocol.openai import error_body

# When either is reached, new background chats are refused and nobody else is hurt. Those that run by
# then may still bring one answer each.
MAX_KEPT: Final = 1000
MAX_KEPT_BYTES: Final = 128 * 1024 * 1024

log = get_logger("background")


class Background(Struct):
    """One background chat and, in the end, what came of it."""

    request_id: str
    owner: Principal
    status: str = "running"
    result: bytes = b""
    error: ApexError | None = None


class Backgrounds:
    """The background chats of the hub.

    Args:
        flights: The live tree.
        keep_s: How long a result can be asked for, seconds.

    Attributes:
        keep_s: The same; what ends from now on is kept so long.
    """

    def __init__(self, flights: Flights, keep_s: float) -> None:
        self._flights = flights
        self.keep_s = keep_s
        self._kept: dict[tuple[str, str], Background] = {}
        self._nursery: trio.Nursery | None = None

    def __len__(self) -> int:
        return len(self._kept)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the tasks until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            self._kept.clear()

    def start(
        self,
        request_id: str,
        owner: Principal,
        work: Callable[[Flight], Awaitable[bytes]],
        *,
        timeout_s: float,
        told: AbstractContextManager[Any] | None = None,
        held: Held | None = None,
    ) -> None:
        """Run `work` in a flight of its own and keep what it returns.

        Args:
            request_id: Its id, and the flight's.
            owner: Whose it is.
            work: Returns the answer.
            timeout_s: Its deadline, from now.
            told: Is around the flight, so that it hears of every end.
            held: What it takes of its owner's share; taken over when nothing is raised, and given back
                at its end.

        Raises:
            RequestIdTaken: A flight of that id is there already.
            Overloaded: Too many results are kept already.
        """
        assert self._nursery is not None
        if len(self._kept) >= MAX_KEPT or self._kept_bytes() >= MAX_KEPT_BYTES:
            raise Overloaded("Too many background chats are running or kept.", retry_after_s=60)
        flight = self._flights.open(request_id, "chat", owner, timeout_s=timeout_s)
        chat = self._kept[owner.tenant_id, request_id] = Background(request_id, owner)
        share = held.taken_over() if held is not None else Held()
        self._nursery.start_soon(
            self._run, chat, flight, work, told or nullcontext(), share, name=f"background {request_id}"
        )

    def find(self, request_id: str, principal: Principal) -> Background:
        """Return a background chat that runs or has ended lately.

        Raises:
            NotFound: Unknown, forgotten, or of someone else.
        """
        # Two tenants may use the same id: one's own comes first.
        own = self._kept.get((principal.tenant_id, request_id))
        chats: list[Background] = [*([own] if own else ()), *self._kept.values()]
        for chat in chats:
            if chat.request_id == request_id and principal.may_see(chat.owner):
                return chat
        raise NotFound(f"There is no request {request_id}.")

    async def _run(
        self,
        chat: Background,
        flight: Flight,
        work: Callable[[Flight], Awaitable[bytes]],
        told: AbstractContextManager[Any],
        share: Held,
    ) -> None:
        with doing(chat.owner, chat.request_id):  # what is said of its end too, which is after the flight's
            await self._run_to_its_end(chat, flight, work, told, share)
        assert self._nursery is not None
        self._nursery.start_soon(self._forget_later, chat, name=f"result {chat.request_id}")

    async def _run_to_its_end(
        self,
        chat: Background,
        flight: Flight,
        work: Callable[[Flight], Awaitable[bytes]],
        told: AbstractContextManager[Any],
        share: Held,
    ) -> None:
        try:
            with share, told, flight:
                chat.result = await work(flight)
            chat.status = "completed"
        except Interrupted as fault:
            chat.status, chat.error = "interrupted", fault
        except ApexError as fault:
            chat.status, chat.error = "failed", fault
        except Exception as fault:  # the boundary of a turn that nobody waits for
            log.error("background chat failed", request_id=chat.request_id, exc_info=fault)
            chat.status, chat.error = "failed", InternalFault("The hub failed; its log says how.")
        log.info(
            "background chat ended",
            request_id=chat.request_id,
            outcome=chat.status,
            error=chat.error.code if chat.error else None,
            duration_ms=round((trio.current_time() - flight.started) * 1000, 1),
            bytes=len(chat.result),
        )

    def _kept_bytes(self) -> int:
        return sum(len(chat.result) for chat in self._kept.values())

    async def _forget_later(self, chat: Background) -> None:
        await trio.sleep(self.keep_s)
        # The id may be in use again by now.
        if self._kept.get(key := (chat.owner.tenant_id, chat.request_id)) is chat:
            del self._kept[key]


def described(chat: Background) -> dict[str, Any]:
    """Say how a background chat stands, as ``GET /v1/requests/{id}`` shows it."""
    said: dict[str, Any] = {
        "id": chat.request_id,
        "kind": "chat",
        "status": chat.status,
        "tenantId": chat.owner.tenant_id,
    }
    if chat.result:
        said["result"] = Raw(chat.result)
    if chat.error is not None:
        said["error"] = error_body(chat.error)
    return said
