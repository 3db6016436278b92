"""A model's answer for a node: one turn without tools, its text and what it cost."""

from collections.abc import Callable
from typing import Any

from apexbridge_trio.chat import Turn, WholeListener
from apexbridge_trio.flights import Flight
from apexbridge_trio.models import ModelTable
from apexbridge_trio.nodes import Said
from apexbridge_trio.pending import Pendings
from apexbridge_trio.protocol.openai import encode, read_chat
from apexbridge_trio.tools import Toolbox


async def ask_model(
    models: ModelTable,
    pendings: Pendings,
    default_model: str,
    fields: dict[str, Any],
    flight: Flight,
    hear: Callable[[str], None] | None,
) -> Said:
    """Ask a model for one answer.

    Args:
        models: Where to look for it.
        pendings: The hub's.
        default_model: Where the fields name none.
        fields: OpenAI's, of a chat request.
        flight: Entered by the caller; what ends it ends this.
        hear: Is told each piece of the text as it comes; None: nobody waits for pieces.

    Raises:
        ApexError: Why there is no answer.
    """
    request, raw = read_chat(encode(fields))
    model = await models.find(request.model or default_model)
    turn = Turn(request, raw, model, Toolbox({}, pendings), max_rounds=1)
    listener = WholeListener(turn, hear)
    await turn.run(flight, listener)
    return Said(listener.text, listener.usage)
