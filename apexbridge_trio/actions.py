"""What the hub does by itself, as a reminder or a trigger asks: a chat that nobody waits for, or a tool."""

from collections.abc import Callable
from typing import Any, Final

import msgspec
import trio
from msgspec import Raw, Struct

from apexbridge_trio.chat import Turn, WholeListener
from apexbridge_trio.config import Limits
from apexbridge_trio.errors import BadRequest, Forbidden, ToolFailed
from apexbridge_trio.events import Events
from apexbridge_trio.flights import Flight
from apexbridge_trio.identity import Principal
from apexbridge_trio.limits import Limiter
from apexbridge_trio.protocol.openai import Call, CalledFunction, encode, read_chat
from apexbridge_trio.push import Unpushed
from apexbridge_trio.redaction import redact
from apexbridge_trio.settings import Snapshot
from apexbridge_trio.tools import Toolbox

# An answer is kept as a notice until somebody takes it; who wants more asks again.
MOST_SAID: Final = 8000


class Parts(Struct):
    """What an action takes."""

    prompt: str = ""
    tool: str = ""
    args: Raw = Raw(b"{}")


class Actions:
    """Runs chats and tools for their owners.

    Args:
        now: The config and models of this moment; a chat keeps to those it began with.
        toolbox: What plugins and nodes offer somebody now.
        limiter: What the owner's key may take: a chat that nobody waits for counts as any other.
        may_act: Whether somebody may still have things done: their key may have been revoked.
        events: Who hears of a chat's end.
    """

    def __init__(
        self,
        now: Callable[[], Snapshot],
        toolbox: Callable[[Principal], Toolbox],
        may_act: Callable[[Principal], bool] = lambda _owner: True,
        limiter: Limiter | None = None,
        events: Events | None = None,
    ) -> None:
        self._now = now
        self._toolbox = toolbox
        self._may_act = may_act
        self._limiter = Limiter(Limits()) if limiter is None else limiter
        self._events = Events() if events is None else events

    @property
    def timeout_s(self) -> float:
        """How long an action that begins now may take."""
        return self._now().config.chat.timeout_s

    async def run(self, kind: str, action: str, flight: Flight) -> str:
        """Do it, inside its flight; returns what the flight's owner is told, if anything.

        Args:
            kind: ``chat`` or ``tool``.
            action: What that takes, JSON: see `Parts`.
            flight: Entered already; what is done is below it.

        Raises:
            ApexError: Why it was not done.
        """
        if not self._may_act(flight.owner):
            raise Forbidden("The key that set this was revoked; it does nothing any more.")
        parts = msgspec.json.decode(action, type=Parts)
        if kind == "chat":
            told = Unpushed(self._events, flight.owner, flight.name, self._now().config.chat.default_model)
            with told, self._limiter.hold_chat(flight.owner.id, is_stream=False, now=trio.current_time()):
                return (await self._answer(parts.prompt, flight))[:MOST_SAID]
        await self._tool(parts, flight)
        return ""

    def check(self, kind: str, action: str, owner: Principal) -> None:
        """Refuse a tool that is not there.

        Raises:
            BadRequest: With near names.
        """
        if kind == "tool":
            _find(self._toolbox(owner), msgspec.json.decode(action, type=Parts).tool)

    async def _answer(self, prompt: str, flight: Flight) -> str:
        request, fields = read_chat(encode({"messages": [{"role": "user", "content": prompt}]}))
        snapshot = self._now()
        chat = snapshot.config.chat
        model = await snapshot.models.find(chat.default_model)
        toolbox, spend = self._toolbox(flight.owner), self._limiter.spender(flight.owner.id)
        turn = Turn(request, fields, model, toolbox, chat.max_rounds, spend=spend)
        listener = WholeListener(turn)
        await turn.run(flight, listener)
        return listener.text

    async def _tool(self, parts: Parts, flight: Flight) -> None:
        toolbox = self._toolbox(flight.owner)
        _find(toolbox, parts.tool)
        call = Call(id="call_action", function=CalledFunction(parts.tool, bytes(parts.args).decode()))
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
