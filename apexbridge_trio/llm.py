"""A model's answer for a node: one turn without tools, its text and what it cost."""

from collections.abc import Callable
from typing import Any

from apexbridge_trio.chat import Turn, WholeListener
from apexbridge_trio.flights import Flight
from apexbridge_trio.nodes import Said
from apexbridge_trio.pending import Pendings
from apexbridge_trio.protocol.openai import encode, read_chat
from apexbridge_trio.settings import Snapshot
from apexbridge_trio.tools import Toolbox


async def ask_model(
    now: Callable[[], Snapshot],
    pendings: Pendings,
    fields: dict[str, Any],
    flight: Flight,
    hear: Callable[[str], None] | None,
    spend: Callable[[int, float], None],
) -> Said:
    """Ask a model for one answer.

    Args:
        now: The config and models of this moment; the answer keeps to them.
        pendings: The hub's.
        fields: OpenAI's, of a chat request.
        flight: Entered by the caller; what ends it ends this.
        hear: Is told each piece of the text as it comes; None: nobody waits for pieces.
        spend: As for `Turn`.

    Raises:
        ApexError: Why there is no answer.
    """
    request, raw = read_chat(encode(fields))
    snapshot = now()
    model = await snapshot.models.find(request.model or snapshot.config.chat.default_model)
    turn = Turn(request, raw, model, Toolbox({}, pendings), max_rounds=1, spend=spend)
    listener = WholeListener(turn, hear)
    await turn.run(flight, listener)
    return Said(listener.text, listener.usage)
