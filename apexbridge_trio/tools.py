"""The toolbox: a name leads to whatever runs it, and each call ends in one outcome.

Nothing here raises a domain error to the turn: a tool that fails, is stopped or is unknown is an
outcome like any other, and the model is told.

A tool whose result comes later is waited for like any other, within its `Later.wait_s`; then the
model is told that the task is pending, and the result is for its owner. If the callback says that it
failed, the tool is called again, as often as its manifest allows.

The log has two lines of each call, its begin and its end, so that who watches it sees tools run. They name
the tool and say how it went; what it was given and what it gave back are nobody's but the chat's.
"""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any, Final, Literal

import msgspec
import trio
from msgspec import Struct

from apexbridge_trio.errors import ApexError, Interrupted, StoreUnusable, TaskFailed, ToolFailed, ToolTimeout
from apexbridge_trio.flights import Flight
from apexbridge_trio.identity import Principal
from apexbridge_trio.log import get_logger
from apexbridge_trio.models import ToolChoice
from apexbridge_trio.pending import Pendings
from apexbridge_trio.plugins import CallContext, Later, Pending, Tool
from apexbridge_trio.protocol.openai import Call, encode, is_content
from apexbridge_trio.redaction import redact

# A plugin's name in a prompt; any other pair of braces is left alone.
_NAMED: Final = re.compile(r"\{\{\s*(\w+)\s*\}\}")

# What a tool's fault looks like as an event.
Failed = Callable[[Principal, dict[str, Any]], None]

State = Literal["success", "pending", "failed", "interrupted", "timed_out"]
# What the end of a call is on the log channel, contract §2.4, and in words.
_ENDS: Final[dict[State, tuple[str, str]]] = {
    "success": ("success", "the tool has run"),
    "pending": ("executing", "the tool goes on, and answers later"),
    "failed": ("error", "the tool has failed"),
    "interrupted": ("interrupted", "the tool was stopped"),
    "timed_out": ("error", "the tool took too long"),
}

# Of a failure's words, which may be another machine's, in the log.
_LONGEST_REASON: Final = 500

log = get_logger("tools")


class Outcome(Struct, frozen=True):
    """What became of one call.

    Attributes:
        content: What the model is told: JSON text, or the content parts that the tool returned.
        reason: Why it has failed, if it has.
    """

    call: Call
    state: State
    content: str | list[dict[str, Any]]
    reason: str = ""

    def message(self) -> dict[str, Any]:
        """Return the message that tells the model."""
        return {"role": "tool", "tool_call_id": self.call.id, "content": self.content}


# The arguments are the model's, the words in them those of who asked.
_ASKED: Final = frozenset({"invalid_arguments", "invalid_request", "in_the_past", "unclear"})


class Toolbox:
    """All tools the hub can run, by name, and the texts that go into prompts, at one moment.

    Args:
        tools: By the name the model calls.
        pendings: Where calls that answer later are waited for.
        texts: Of static plugins, by the name that a prompt calls them.
        failed: Told of each call that failed by its tool's fault: whose it is, and what happened.
    """

    def __init__(
        self,
        tools: Mapping[str, Tool],
        pendings: Pendings,
        texts: Mapping[str, str] | None = None,
        failed: Failed = lambda _owner, _what: None,
    ) -> None:
        self._tools = tools
        self._pendings = pendings
        self._texts = texts or {}
        self._failed = failed

    def worded(self, prompt: str) -> str:
        """Return a prompt with the text of a static plugin wherever ``{{name}}`` names one."""
        return _NAMED.sub(lambda found: self._texts.get(found[1], found[0]), prompt)

    def chosen(self, offered: ToolChoice, wanted: Literal["auto", "none"] | list[str]) -> list[str]:
        """Return the names a model is offered and the request wants, in the toolbox's order."""
        if offered == "none" or wanted == "none":
            return []
        return [
            name
            for name in self._tools
            if (offered == "all" or name in offered) and (wanted == "auto" or name in wanted)
        ]

    def near(self, name: str) -> list[str]:
        """Return names that look like one that is not there."""
        return difflib.get_close_matches(name, self._tools, n=3)

    def definitions(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return OpenAI's tool objects for the names."""
        return [_definition(self._tools[name]) for name in names]

    async def run(self, calls: Sequence[Call], flight: Flight, prefix: str) -> list[Outcome]:
        """Run the calls of one round side by side, each a child of `flight`.

        Cancellation: all are stopped; those that began have ended when this returns.
        """
        outcomes: dict[int, Outcome] = {}

        async def run_one(place: int, call: Call) -> None:
            outcomes[place] = await self._outcome(call, flight, prefix)

        async with trio.open_nursery() as nursery:
            for place, call in enumerate(calls):
                nursery.start_soon(run_one, place, call, name=f"{flight.path}/{prefix}{call.function.name}")
        return [outcomes[place] for place in range(len(calls))]

    async def _outcome(self, call: Call, flight: Flight, prefix: str) -> Outcome:
        tool = self._tools[call.function.name]
        own = flight.child(f"{prefix}{tool.name}", tool.kind)
        log.info("the tool is running", tool=tool.name, status="executing", call=own.path)
        outcome: Outcome | None = None
        try:
            outcome = await self._called(tool, call, own)
            return outcome
        finally:
            _log_end(tool, own, outcome)

    async def _called(self, tool: Tool, call: Call, own: Flight) -> Outcome:
        try:
            with own:
                own.facts |= {"gen_ai.tool.name": tool.name, "apex.plugin": tool.plugin}
                arguments = _arguments(call)
                result = await self._result(tool, arguments, own)
        except Interrupted:
            return _told(call, "interrupted", "interrupted", "The user stopped this call.")
        except ToolTimeout as fault:
            self._note(tool, own, fault)
            return _told(call, "timed_out", fault.code, fault.message)
        except (ToolFailed, StoreUnusable) as fault:
            self._note(tool, own, fault)
            return _told(call, "failed", fault.code, fault.message)
        if isinstance(result, Pending):
            return Outcome(call, "pending", encode(_pending(result)).decode())
        return Outcome(call, "success", result if is_content(result) else encode(result).decode())

    def _note(self, tool: Tool, flight: Flight, fault: ApexError) -> None:
        """Tell of a plugin's fault; of a node's its task does, and what was asked for is no fault of it."""
        if tool.kind == "node" or fault.code in _ASKED or isinstance(fault, StoreUnusable):
            return
        said = {"plugin": tool.plugin, "tool": tool.name, "what": "call", "code": fault.code}
        request_id = flight.path.partition("/")[0]
        self._failed(flight.owner, said | {"message": redact(fault.message), "requestId": request_id})

    async def _result(self, tool: Tool, arguments: dict[str, Any], flight: Flight) -> Any | Pending:
        if tool.later is None:
            return await tool.call(arguments, CallContext(flight))
        for attempt in range(1, tool.later.attempts):
            try:
                return await self._late_result(tool, tool.later, arguments, flight)
            except TaskFailed:
                await trio.sleep(tool.later.backoff_s * 2 ** (attempt - 1))
        return await self._late_result(tool, tool.later, arguments, flight)

    async def _late_result(
        self, tool: Tool, later: Later, arguments: dict[str, Any], flight: Flight
    ) -> Any | Pending:
        async with self._pendings.open_call(tool, flight) as call:
            result = await tool.call(arguments, CallContext(flight, call.address))
            return await call.result(result, later.wait_s) if isinstance(result, Pending) else result


def _arguments(call: Call) -> dict[str, Any]:
    try:
        return msgspec.json.decode(call.function.arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as fault:
        message = f"The arguments are not a JSON object: {fault}"
        raise ToolFailed(message, code="invalid_arguments") from None


def _pending(pending: Pending) -> dict[str, Any]:
    return {
        "status": "pending",
        "taskId": pending.task_id,
        "message": "The task goes on. Its result is not known yet; the user is told when it is.",
    }


def _told(call: Call, state: State, code: str, message: str) -> Outcome:
    return Outcome(call, state, encode({"error": {"code": code, "message": message}}).decode(), message)


def _log_end(tool: Tool, own: Flight, outcome: Outcome | None) -> None:
    """Write the line of a call's end; one without an outcome was cut with its request, or is a defect."""
    is_cut = trio.current_effective_deadline() == -inf
    state = outcome.state if outcome is not None else "interrupted" if is_cut else "failed"
    status, said = _ENDS[state]
    fields: dict[str, Any] = {"duration_ms": round((trio.current_time() - own.started) * 1000, 1)}
    if outcome is not None and status == "error":
        fields["reason"] = outcome.reason[:_LONGEST_REASON]
    if (node := own.remarks.get("nodeId")) is not None:
        fields["node"] = node
    tell = log.warning if status == "error" else log.info
    tell(said, tool=tool.name, status=status, call=own.path, **fields)


def _definition(tool: Tool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}
