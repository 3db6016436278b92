"""One call that may answer later, from its record to its end."""

import secrets
from functools import partial
from hashlib import sha256
from typing import Any, Final

import trio

from apexbridge_trio.errors import TaskFailed, ToolTimeout
from apexbridge_trio.flights import Flight
from apexbridge_trio.ids import new_id
from apexbridge_trio.journal import Journal
from apexbridge_trio.ledger import Ledger, Verdict
from apexbridge_trio.plugins import CallbackAddress, Later, Pending, Tool
from apexbridge_trio.plugins.output import Output
from apexbridge_trio.protocol.callback import Callback, read_callback
from apexbridge_trio.protocol.openai import encode
from apexbridge_trio.store import TaskState

# The shape by which a token is masked in every log line is that of a key: ``apx_…``.
_TOKEN_PREFIX: Final = "apx_cb_"  # noqa: S105  # not one
_TOKEN_BYTES: Final = 32

# How long an interrupt waits for the disk and for a plugin's processes before it goes on without
# them: longer than plugins.kill_grace_s, since a receipt is to be true, and not for ever.
LEAVE_S: Final = 10.0


class PendingCall:
    """One call that may answer later; made by `Pendings.open_call`.

    Attributes:
        address: Where the plugin brings its result.
        running: What goes on after the plugin's answer.
        state: How the task ended; None before that.
        is_awaited: Whether somebody still waits.
    """

    def __init__(self, journal: Journal, ledger: Ledger, tool: Tool, flight: Flight, url: str) -> None:
        self.call_id = new_id("task")
        token = _TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
        self.address = CallbackAddress(f"{url}/~{token}", token)
        self.running: trio.abc.AsyncResource | None = None
        self.state: TaskState | None = None
        self.is_awaited = True
        self._journal = journal
        self._ledger = ledger
        self._tool = tool
        self._rule = tool.later or Later()
        self._flight = flight
        self._is_named = False
        self._is_taken = False
        self._callback: Callback | None = None
        # The plugin's last word of how far it is; it may come before its answer was read.
        self._progress: dict[str, Any] = {}
        self._ended = trio.Event()

    @property
    def path(self) -> str:
        """Where it is waited for in the live tree."""
        return self._flight.path

    @property
    def is_stopped(self) -> bool:
        """Whether somebody said stop: to the wait, or to whatever is above it."""
        return any(flight.stop for flight in self._flight.lineage())

    @property
    def is_owed(self) -> bool:
        """Whether the task has a result that nobody took; asked when nobody waits any more."""
        return self.state in {"succeeded", "failed", "timed_out"} and not self._is_taken

    async def open(self, default_expires_s: float) -> None:
        """Record the call; the plugin may be told of it once this returns."""
        record = partial(
            self._ledger.open,
            self.call_id,
            plugin=self._tool.plugin,
            tool=self._tool.name,
            owner=self._flight.owner,
            token_hash=hash_of(self.address.token),
            expires_s=self._rule.expires_s or default_expires_s,
        )
        await self._journal.post(record).wait()

    async def result(self, pending: Pending, wait_s: float) -> Any | Pending:
        """Wait for the callback, as a flight ``callback`` below the call's own.

        Cancellation: by an interrupt, the task is withdrawn and what runs has ended when this returns;
        by anything else the task is kept.

        Returns:
            The result; or `pending` if it did not come within `wait_s` seconds.

        Raises:
            ToolFailed: The plugin's name for its task may not be.
            TaskFailed: The callback says so.
            ToolTimeout: The task's own time is over.
        """
        self.running = pending.running
        _, came = await self._journal.post(partial(self._ledger.name, self.call_id, pending.task_id)).wait()
        self._is_named = True
        if came is not None:
            self._take(read_callback(came))
        with self._flight.child("callback", "callback") as self._flight:
            self._flight.remarks |= self._progress
            try:
                with trio.move_on_after(wait_s):
                    await self._ended.wait()
            finally:
                if self.is_stopped:
                    with trio.move_on_after(LEAVE_S, shield=True):
                        await self.leave()
        if self.state is None:
            return pending
        self._is_taken = True
        return self._outcome()

    def hear(self, verdict: Verdict, callback: Callback) -> None:
        """Take what a callback said, once it is on disk."""
        if verdict.word == "progress":
            self._progress = {"progress": callback.progress, "message": callback.message}
            self._flight.remarks |= self._progress
        elif verdict.word == "accepted":
            self._take(callback)

    def end(self, state: TaskState) -> None:
        """Wake who waits: the task has ended."""
        self.state = state
        self._ended.set()

    async def leave(self) -> None:
        """Do what is to be done when nobody waits any more; a second time does nothing more.

        After an interrupt it waits until the disk and the plugin's processes have followed, so that
        the receipt is true: to be called in a shield, bounded by `LEAVE_S`.
        """
        if self.state is None and self.is_stopped:
            # First, so that no callback comes between.
            withdrawn = self._journal.post(partial(self._ledger.withdraw, self.call_id))
            await self.close_running()
            await withdrawn.wait()
            # A callback may have been the first after all.
            self.state = self.state or "interrupted"
        elif self.state is None and self._is_named:
            return
        elif self.state is None:
            self._journal.post(partial(self._ledger.close, self.call_id))
        elif self._is_taken:
            self._journal.post(partial(self._ledger.taken, self.call_id))
        await self.close_running()

    async def close_running(self) -> None:
        """End what still runs of the plugin."""
        running, self.running = self.running, None
        if running is not None:
            await running.aclose()

    def _take(self, callback: Callback) -> None:
        self._callback = callback
        self.end("succeeded" if callback.status == "success" else "failed")

    def _outcome(self) -> Any:
        if self._callback is None:
            raise ToolTimeout(f"{self._tool.name} did not bring its result in time.", code="task_timed_out")
        if self.state == "failed":
            raise TaskFailed(self._callback.message)
        json = encode(self._callback.value)
        return Output(json, len(json)).within(self._rule.max_output_bytes)


def hash_of(token: str) -> bytes:
    """Return what is kept of a token: it is random enough for a plain hash."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()
