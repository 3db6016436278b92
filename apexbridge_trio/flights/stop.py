"""One interrupt of one flight, and its receipt."""

from typing import Any

import trio

from apexbridge_trio.flights.flight import Flight, milliseconds


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
        left = [flight.path for flight in self._awaited if not flight.is_gone]
        end = max(map(_end, self._awaited))
        return {
            "success": True,
            "status": "success",
            "interrupted": bool(left) or self.flight.scope.cancelled_caught,
            "requestId": self.flight.path.partition("/")[0],
            "message": self._message(len(left)),
            "state": "stopping" if left else "stopped",
            "tookMs": milliseconds(end - self.asked),
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
        state = "stopped" if flight.is_gone else "stopping"
        ms = milliseconds(_end(flight) - self.asked)
        return {"path": flight.path, "kind": flight.kind, "state": state, "ms": ms} | flight.remarks


def _end(flight: Flight) -> float:
    """Return when a flight was gone: now, as long as it is not."""
    return flight.ended if flight.is_gone and flight.ended is not None else trio.current_time()
