"""The app's start-up and shut-down, as ASGI words them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from apexbridge_trio.errors import InternalFault
from apexbridge_trio.serving.call import ASGIApp, Message

# Quart runs its before- and after-serving functions in there; ours take no longer.
LIFESPAN_TIMEOUT_S: Final = 60.0


class _Lifespan:
    def __init__(self, app: ASGIApp, state: dict[str, Any]) -> None:
        self._app = app
        self._state = state
        self._ask, self._asked = trio.open_memory_channel[Message](2)
        self._tell, self._told = trio.open_memory_channel[Message](2)

    async def run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"spec_version": "2.0", "version": "3.0"}, "state": self._state}
        with self._tell, self._asked:
            await self._app(scope, self._asked.receive, self._tell.send)

    async def step(self, phase: str) -> None:
        """Ask for `phase` and wait for its end; an app that has returned has no lifespan."""
        try:
            with trio.fail_after(LIFESPAN_TIMEOUT_S):
                await self._ask.send({"type": f"lifespan.{phase}"})
                told = await self._told.receive()
        except (trio.BrokenResourceError, trio.EndOfChannel):
            return
        if told["type"] != f"lifespan.{phase}.complete":
            raise InternalFault(f"The app failed at its {phase}: {told.get('message', '')}")


@asynccontextmanager
async def lifespan(app: ASGIApp) -> AsyncIterator[dict[str, Any]]:
    """Run the app's lifespan around the block, which gets the state it fills.

    An app without a lifespan returns at once. A crash of the app's lifespan, at any time, is total:
    it ends the block. Cancelled from outside, the app is not asked to shut down: it is cancelled.

    Raises:
        InternalFault: The app said that its start-up or shut-down failed.
        TooSlowError: It said nothing for a minute.
    """
    state: dict[str, Any] = {}
    held = _Lifespan(app, state)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(held.run, name="lifespan")
        await held.step("startup")
        yield state
        await held.step("shutdown")
