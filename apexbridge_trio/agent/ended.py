"""How a connection ended, in words for people, and what that means for the next one."""

from typing import Final

from msgspec import Struct

from apexbridge_trio.agent.socket import Refused

GOING_AWAY: Final = 1001
BROKEN: Final = 1006
TOO_LARGE: Final = 1009
REPLACED: Final = 4001

# What is told, by the status of an upgrade that was refused.
_REFUSALS: Final = {
    401: "the hub does not know this key, or it is not one of a node",
    403: "the key is one that may not do this; a node's has the scope node",
    404: "there is no hub at this address, or one that takes no nodes",
    503: "the hub is full, or about to end",
}


class Ended(Struct, frozen=True, kw_only=True):
    """How a connection ended.

    Args:
        reason: For people.
        held: It was registered for a good while.
        is_slow: Trying again soon is of no use.
        retry_after_s: What the hub asked for.
        too_large: The task whose result the hub does not take for its size.
        is_ours: The node has left on purpose.
    """

    reason: str
    held: bool = False
    is_slow: bool = False
    retry_after_s: float = 0.0
    too_large: str = ""
    is_ours: bool = False


def refused(refusal: Refused) -> Ended:
    """Return how a connection ended whose upgrade was answered with an HTTP status."""
    reason = _REFUSALS.get(refusal.status, "there is no hub at this address that takes nodes")
    is_slow = refusal.status not in {429, 500, 502, 503, 504}
    return Ended(
        reason=f"{reason} (HTTP {refusal.status})", is_slow=is_slow, retry_after_s=refusal.retry_after_s
    )


def closed(code: int, words: str, *, held: bool, largest: str) -> Ended:
    """Return how a connection ended that the hub has closed.

    Args:
        code: The WebSocket's.
        words: The hub's own.
        held: See `Ended`.
        largest: The task whose result is the largest that was sent, if one is large.
    """
    if code == REPLACED:
        text = "another agent has taken this node's id by force; does each machine have an id of its own?"
        return Ended(reason=text, is_slow=True)
    if code == TOO_LARGE and largest:
        return Ended(reason="a result is too large for the hub", held=held, too_large=largest)
    known = {GOING_AWAY: "the hub is about to end", BROKEN: "the connection broke"}
    said = f": {words}" if words else ""
    return Ended(reason=f"{known.get(code, f'the hub closed it with {code}')}{said}", held=held)
