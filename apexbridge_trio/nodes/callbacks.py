"""Results that come as callbacks: those of nodes' tasks over HTTP, those of plugins by way of a node."""

import secrets
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Final

import trio

from apexbridge_trio.errors import ApexError, StorageFailed
from apexbridge_trio.identity import Principal
from apexbridge_trio.ledger import Verdict
from apexbridge_trio.log import get_logger
from apexbridge_trio.nodes.book import TaskBook
from apexbridge_trio.nodes.link import NodeLink
from apexbridge_trio.nodes.outcome import Outcome, of_callback
from apexbridge_trio.nodes.reports import Reports
from apexbridge_trio.nodes.task import NodeTask
from apexbridge_trio.protocol.callback import Callback
from apexbridge_trio.protocol.channel import ForwardedCallback
from apexbridge_trio.protocol.frames import TaskCancel
from apexbridge_trio.protocol.openai import encode
from apexbridge_trio.store import RETRY_AFTER_S, NodeRows, NodeTaskRecord

_TOKEN_PREFIX: Final = "apx_cb_"  # noqa: S105  # the shape by which a token is masked in the log

log = get_logger("nodes")


class Callbacks:
    """Takes them.

    Args:
        url: Where results may be brought over HTTP.
        book: The tasks.
        reports: What a result does.
        rows: The loop's connection to the tasks that have ended.

    Attributes:
        forward: Takes a callback that came to a node; set once, when the hub is composed.
    """

    forward: Callable[[Principal, ForwardedCallback], Awaitable[str]]

    def __init__(self, url: Callable[[], str], book: TaskBook, reports: Reports, rows: NodeRows) -> None:
        self._url = url
        self._book = book
        self._reports = reports
        self._rows = rows

    def give_token(self, task: NodeTask) -> None:
        """Let the result of a task come over HTTP too; its node is told where."""
        token = _TOKEN_PREFIX + secrets.token_urlsafe(32)
        task.record.token_hash = _hash_of(token)
        url = f"{self._url()}/~{token}/{task.record.tool}/{task.id}"
        task.callback = {"mode": "http", "url": url}

    def task_of(self, token: str) -> NodeTaskRecord | None:
        """Return the task whose result a token may bring."""
        return self._rows.task_of_token(_hash_of(token))

    async def accept(self, record: NodeTaskRecord, callback: Callback) -> Verdict:
        """Take the result of a task over HTTP; what is "accepted" is on disk when this returns.

        Cancellation: it may be accepted all the same; sent again, it is a duplicate.

        Raises:
            StoreUnusable: It could not be written.
        """
        task, outcome = self._book.live.get(record.id), of_callback(callback)
        if task is not None and task.is_answered:
            await self._book.settled()
            task = self._book.live.get(record.id)
        if task is None or task.is_answered:
            ended = self._rows.task(record.id) or record
            return _verdict_of_ended(ended, None if callback.status == "progress" else outcome)
        if callback.status == "progress":
            self._reports.advanced(task, callback.progress, callback.message)
            return Verdict("progress")
        await self._settle(task, outcome)
        return Verdict("accepted")

    async def _settle(self, task: NodeTask, outcome: Outcome) -> None:
        written, faults = trio.Event(), []

        def done(fault: str) -> None:
            faults.append(fault)
            written.set()

        node = task.node
        self._reports.settle(task, outcome, done)
        await written.wait()
        if faults[0]:
            raise StorageFailed(faults[0], retry_after_s=RETRY_AFTER_S)
        if node is not None and node.link is not None:
            # It may have come from a node that was lost: what has the task now need not go on.
            node.link.say(TaskCancel(task.id, "its result has come over HTTP"))

    def pass_on(self, link: NodeLink, callback: ForwardedCallback) -> None:
        """Take a plugin's callback that a node passes on."""
        link.start(self._forward, link, callback, name=f"callback of {callback.plugin}")

    async def _forward(self, link: NodeLink, callback: ForwardedCallback) -> None:
        try:
            word = await self.forward(link.principal, callback)
        except ApexError as fault:
            word = fault.message
        node_id = link.node.id if link.node else None
        log.info("a callback was passed on", node=node_id, plugin=callback.plugin, taken=word)


def _verdict_of_ended(record: NodeTaskRecord, outcome: Outcome | None) -> Verdict:
    """Say what becomes of a result, or of progress (None), that comes after the end; as the `ledger` does."""
    is_delegating = record.ended_ms is None and record.output is not None
    if record.state not in {"succeeded", "failed"} and not is_delegating:
        return Verdict("gone", was=record.state)
    if outcome is None:
        return Verdict("overtaken")
    said = encode(outcome.error).decode() if outcome.error else None
    is_same = (record.output, record.error) == (outcome.output, said)
    return Verdict("duplicate" if is_same else "conflict")


def _hash_of(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogatepass")).digest()
