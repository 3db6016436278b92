"""What a reminder has done when it is due: a chat that nobody waits for, or a tool."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from apexbridge_trio.chat import Turn, WholeListener
from apexbridge_trio.config import Chat
from apexbridge_trio.errors import BadRequest, Forbidden, ToolFailed
from apexbridge_trio.flights import Flight
from apexbridge_trio.identity import Principal
from apexbridge_trio.models import ModelTable
from apexbridge_trio.protocol.openai import Call, CalledFunction, encode, read_chat
from apexbridge_trio.redaction import redact
from apexbridge_trio.store import ReminderRecord, RunRecord
from apexbridge_trio.tools import Toolbox

# An answer is kept as a notice until somebody takes it; who wants more asks again.
MOST_SAID: Final = 8000


class Parts(Struct):
    """What an action takes."""

    prompt: str = ""
    tool: str = ""
    args: Raw = Raw(b"{}")


@dataclass
class Actions:
    """Runs chats and tools for their owners.

    Attributes:
        models: Where to look for the default one.
        config: Of chats.
        toolbox: What plugins and nodes offer somebody now.
        may_act: Whether somebody may still have things done: their key may have been revoked.
    """

    models: ModelTable
    config: Chat
    toolbox: Callable[[Principal], Toolbox]
    may_act: Callable[[Principal], bool] = lambda _owner: True

    async def run(self, run: RunRecord, flight: Flight) -> str:
        """Do what a reminder does; returns what its owner is told, if anything.

        Raises:
            ApexError: Why it was not done.
        """
        if not self.may_act(flight.owner):
            raise Forbidden("The key that set this reminder was revoked; it does nothing any more.")
        parts = msgspec.json.decode(run.action, type=Parts)
        if run.kind == "chat":
            return (await self._answer(parts.prompt, flight))[:MOST_SAID]
        await self._tool(parts, flight)
        return ""

    def check(self, record: ReminderRecord, owner: Principal) -> None:
        """Refuse a reminder whose tool is not there.

        Raises:
            BadRequest: With near names.
        """
        if record.kind == "tool":
            tool = msgspec.json.decode(record.action, type=Parts).tool
            _find(self.toolbox(owner), tool)

    async def _answer(self, prompt: str, flight: Flight) -> str:
        request, fields = read_chat(encode({"messages": [{"role": "user", "content": prompt}]}))
        model = await self.models.find(self.config.default_model)
        turn = Turn(request, fields, model, self.toolbox(flight.owner), self.config.max_rounds)
        listener = WholeListener(turn)
        await turn.run(flight, listener)
        return listener.text

    async def _tool(self, parts: Parts, flight: Flight) -> None:
        toolbox = self.toolbox(flight.owner)
        _find(toolbox, parts.tool)
        call = Call(id="call_reminder", function=CalledFunction(parts.tool, bytes(parts.args).decode()))
        [outcome] = await toolbox.run([call], flight, "")
        if outcome.state not in {"success", "pending"}:
            raise ToolFailed(_reason(outcome.content))


def _find(toolbox: Toolbox, tool: str) -> None:
    if not toolbox.chosen("all", [tool]):
        near = toolbox.near(tool)
        hint = f"; near are {', '.join(near)}" if near else ""
        raise BadRequest(f"There is no tool {tool!r} now{hint}.", param="action.tool", code="unknown_tool")


def _reason(content: Any) -> str:
    """Return why a tool failed, of the outcome that a model would be told."""
    told = msgspec.json.decode(content) if isinstance(content, str) else {}
    match told:
        case {"error": {"message": str(message)}}:
            return redact(message)[:MOST_SAID]
    return "The tool failed."
