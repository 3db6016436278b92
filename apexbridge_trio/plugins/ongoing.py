"""What goes on after its call has answered: a hybrid plugin's processes, until their task is settled."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from apexbridge_trio.errors import ToolFailed


class Ongoing:
    """Owns the tasks that look after such processes.

    A call begins in its caller's scope, like any other. From the moment it says that its result
    comes later it belongs here: Trio's `Nursery.start` is just that hand-over, so there is no
    moment in which nobody owns it.
    """

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own what is handed over, until cancelled; then all of it is ended."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def start(self, call: Callable[..., Awaitable[object]]) -> Any:
        """Run `call` until it says ``task_status.started(answer)``, and return the answer.

        Cancellation: before the answer it reaches the call, after it nothing here.

        Raises:
            ToolFailed: Nobody runs this.
        """
        if self._nursery is None:
            raise ToolFailed("The plugin can not be called now: the hub has not begun, or is about to end.")
        return await self._nursery.start(call)


class Running(trio.abc.AsyncResource):
    """The processes of one call that go on."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.ended = trio.Event()

    async def aclose(self) -> None:
        """End them and wait until none is left; does nothing if they are gone.

        Cancellation: they are ended all the same, and waited for.
        """
        self.scope.cancel(reason="the task of these processes is over")
        # Shielded: whoever closes says next that they are gone. Bounded by what `open_tree` may take.
        with trio.CancelScope(shield=True):
            await self.ended.wait()
