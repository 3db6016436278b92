"""The model's answers that nodes ask for: under the task they serve, within quotas, gone with their node."""

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

import trio
from msgspec import Struct

from apexbridge_trio.clock import now_ms
from apexbridge_trio.config import Nodes as NodesConfig
from apexbridge_trio.errors import (
    ApexError,
    BadRequest,
    DeadlinePassed,
    Draining,
    Interrupted,
    ModelNotFound,
    UpstreamBusy,
    UpstreamLimited,
    UpstreamSilent,
    UpstreamUnreachable,
)
from apexbridge_trio.flights import Flight, Flights
from apexbridge_trio.identity import owner_of
from apexbridge_trio.ids import new_id
from apexbridge_trio.limits import Allowance, Limiter, Meters, Rate
from apexbridge_trio.nodes.link import NodeLink
from apexbridge_trio.nodes.node import Node
from apexbridge_trio.nodes.registry import Registry
from apexbridge_trio.nodes.task import NodeTask
from apexbridge_trio.nodes.tasks import NodeTasks
from apexbridge_trio.protocol.frames import LlmRequest, LlmResponse, LlmResponseStream, TaskFault
from apexbridge_trio.protocol.openai import OWN_FIELDS
from apexbridge_trio.store import NodeRows

_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

# The contract's word for each fault; the first that fits.
_CODES: Final[tuple[tuple[type[ApexError], str], ...]] = (
    (Interrupted, "interrupted"),
    (DeadlinePassed, "timeout"),
    (UpstreamSilent, "timeout"),
    (UpstreamLimited, "rate_limit_exceeded"),
    (UpstreamBusy, "llm_unavailable"),
    (UpstreamUnreachable, "llm_unavailable"),
    (ModelNotFound, "llm_unavailable"),
    (Draining, "llm_unavailable"),
    (BadRequest, "invalid_payload"),
)


class Said(Struct, frozen=True):
    """A model's whole answer; `usage` as OpenAI words it."""

    content: str
    usage: dict[str, Any] | None


# What a node is told that works for a task that has ended so.
_ENDS: Final = {"interrupted": "interrupted", "timed_out": "timeout"}

# Is told at the end how many tokens it has cost, and when.
Spend = Callable[[int, float], None]
# Asks a model: OpenAI's fields, the flight it is done in, who hears each piece of a stream, and the cost.
AskModel = Callable[[dict[str, Any], Flight, Callable[[str], None] | None, Spend], Awaitable[Said]]


class Quota:
    """How often one node may ask, and how much at once; it outlives its connections."""

    def __init__(self, config: NodesConfig) -> None:
        self.requests = Rate(config.llm_requests_per_minute)
        self.streams = 0

    def configure(self, config: NodesConfig) -> None:
        """Allow what another config says, from now on."""
        self.requests.retune(config.llm_requests_per_minute, trio.current_time())


class NodeLlm:
    """Answers what nodes ask of models.

    How often a node asks is counted by its name. What it costs is counted by the key that has opened its
    connection: names are for the taking, and a key would have a day's tokens with each of them.

    Attributes:
        ask_model: Set once, when the hub is composed, as is the next one.
        limiter: Counts what keys have used.
        spent: Told of each key whose nodes' tokens were counted just now, and where.
    """

    ask_model: AskModel
    limiter: Limiter

    def __init__(self, config: NodesConfig, flights: Flights, tasks: NodeTasks, rows: NodeRows) -> None:
        self._config = config
        self._flights = flights
        self._tasks = tasks
        self._rows = rows
        self._quotas: dict[str, Quota] = {}
        self._tokens = Meters(Allowance)
        self.spent: Callable[[str, Allowance], None] = lambda _key_id, _allowance: None

    def configure(self, config: NodesConfig) -> None:
        """Allow what another config says, also those that are here; what runs goes on."""
        self._config = config
        for quota in self._quotas.values():
            quota.configure(config)

    def keep_only(self, known: Registry) -> None:
        """Forget the quotas of nodes that were forgotten."""
        for name in [name for name in self._quotas if not known.get(name)]:
            del self._quotas[name]

    def tokens_of(self, key_id: str) -> Allowance:
        """Return where the tokens of a key's nodes are counted."""
        allowance = self._tokens.of(key_id)
        allowance.per_day = self._config.llm_tokens_per_day
        return allowance

    def ask(self, link: NodeLink, request: LlmRequest) -> None:
        """Begin to answer, in the nursery of the task it serves, or else in the connection's own."""
        node = link.node
        assert node is not None
        task = self._tasks.live(request.of_task or "")
        if task is not None and task.node is not node:
            task = None
        nursery = task.nursery if task is not None else link.nursery
        fault = self._refusal(link, node, request)
        if fault is None and (task is None or nursery is None):
            fault = self._unserved(node, request.of_task)
        if fault is not None or nursery is None:
            link.unwanted()
            _fail(link, request, fault or TaskFault("The task is over.", "llm_request_failed"))
            return
        quota = self._quota(node.id)
        link.answers[request.request_id] = scope = trio.CancelScope()
        quota.streams += request.is_stream
        nursery.start_soon(
            self._run, link, node, request, task, scope, quota, name=f"model answer for {node.id}"
        )

    def _refusal(self, link: NodeLink, node: Node, request: LlmRequest) -> TaskFault | None:
        quota = self._quota(node.id)
        now = trio.current_time()
        if request.request_id in link.answers:
            return TaskFault(f"The request {request.request_id} is being answered.", "invalid_payload")
        if request.is_stream and quota.streams >= self._config.llm_concurrent_streams:
            return TaskFault("This node has as many streams as it may have.", "stream_limit_exceeded")
        if fault := self._used_up(link.principal.id, now):
            return TaskFault(fault, "quota_exceeded")
        if wait_s := quota.requests.take(now):
            return TaskFault(f"Too many requests; again in {wait_s:.1f} s.", "rate_limit_exceeded")
        return None

    def _used_up(self, key_id: str, now: float) -> str:
        if not self.tokens_of(key_id).is_left(now):
            return "The nodes of this key have used up their tokens of today."
        if self.limiter.tokens_wait_s(key_id, now):
            return "This node's key has used up its tokens of today."
        return ""

    def _spend(self, key_id: str, tokens: int, now: float) -> None:
        allowance = self.tokens_of(key_id)
        allowance.use(tokens, now)
        self.spent(key_id, allowance)
        self.limiter.use_tokens(key_id, tokens, now)

    def _unserved(self, node: Node, task_id: str | None) -> TaskFault | None:
        """Refuse to work for a task that the node has no more; an id that is not the hub's says nothing."""
        record = self._rows.task(task_id) if task_id else None
        if record is None or not node.serves(owner_of(record)):
            return None
        if record.ended_ms is None:
            return TaskFault("This node does not have the task any more.", "llm_request_failed")
        code = _ENDS.get(record.state, "llm_request_failed")
        return TaskFault(f"The task is over: {record.state}.", code)

    def _quota(self, node_id: str) -> Quota:
        return self._quotas.setdefault(node_id, Quota(self._config))

    async def _run(
        self,
        link: NodeLink,
        node: Node,
        request: LlmRequest,
        task: NodeTask | None,
        scope: trio.CancelScope,
        quota: Quota,
    ) -> None:
        is_told = False
        try:
            with scope:
                await self._answer(link, node, request, task)
                is_told = True
        finally:
            if not is_told:
                _fail(link, request, _cut(task, scope))
            link.answers.pop(request.request_id, None)
            quota.streams -= request.is_stream

    async def _answer(self, link: NodeLink, node: Node, request: LlmRequest, task: NodeTask | None) -> None:
        def hear(chunk: str) -> None:
            link.say(LlmResponseStream(request.request_id, node.id, chunk, done=False, timestamp=now_ms()))

        told, spend = hear if request.is_stream else None, partial(self._spend, link.principal.id)
        try:
            with self._flight(link, task) as flight:
                said = await self.ask_model(_fields(request), flight, told, spend)
        except ApexError as fault:
            _fail(link, request, TaskFault(fault.message, _code_of(fault)))
            return
        if request.is_stream:
            last = LlmResponseStream(
                request.request_id, node.id, "", done=True, timestamp=now_ms(), usage=said.usage
            )
            link.say(last)
        link.say(
            LlmResponse(
                request_id=request.request_id,
                node_id=node.id,
                success=True,
                stream=request.is_stream,
                timestamp=now_ms(),
                content=said.content,
                usage=said.usage,
            )
        )

    def _flight(self, link: NodeLink, task: NodeTask | None) -> Flight:
        if task is not None and task.flight is not None:
            return task.flight.child("llm", "upstream")
        return self._flights.open(
            new_id("req"), "node_llm", link.principal, timeout_s=self._config.task_timeout_s
        )


def _cut(task: NodeTask | None, scope: trio.CancelScope) -> TaskFault:
    """Say why an answer was cut from outside."""
    if scope.cancel_called:
        return TaskFault("The node wants it no more.", "interrupted")
    if task is not None and trio.current_time() >= task.deadline:
        return TaskFault("The time of its task was over.", "timeout")
    return TaskFault("It was cancelled.", "interrupted")


def _fields(request: LlmRequest) -> dict[str, Any]:
    """Return the request in OpenAI's words; the hub's own fields are none of a node's options."""
    given = {name: value for name, value in request.options.items() if name not in OWN_FIELDS}
    options = {_snake(name): value for name, value in given.items() if value is not None}
    named: Mapping[str, Any] = {"model": request.model} if request.model else {}
    return {**options, **named, "messages": request.messages, "stream": request.is_stream}


def _snake(name: str) -> str:
    return _CAMEL.sub("_", name).lower()


def _code_of(fault: ApexError) -> str:
    return next((code for kind, code in _CODES if isinstance(fault, kind)), "llm_request_failed")


def _fail(link: NodeLink, request: LlmRequest, fault: TaskFault) -> None:
    node_id = link.node.id if link.node else ""
    link.say(
        LlmResponse(
            request_id=request.request_id,
            node_id=node_id,
            success=False,
            stream=request.is_stream,
            timestamp=now_ms(),
            error=fault,
        )
    )
