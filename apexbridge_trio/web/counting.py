"""What a request is counted as, once it has ended: labels of our own words, never the client's."""

from typing import Final

import trio

from apexbridge_trio.measures import Measures
from apexbridge_trio.web.arrival import CHAT_PATHS, Arrival
from apexbridge_trio.web.guards import ROUTES, is_below

CHAT: Final = "/v1/chat/completions"
_CHANNELS: Final = {"client": "client", "distributed-server": "node", "log": "log", "VCPlog": "log"}


def count(measures: Measures, arrival: Arrival) -> None:
    """Count a request that has ended."""
    took_s = trio.current_time() - arrival.started
    route, outcome = route_of(arrival), outcome_of(arrival)
    measures.request(route, outcome, took_s)
    turn = arrival.notes.get("turn")
    if turn is None:
        return
    # Only a model that there is has a turn, so a name that somebody made up is never a label.
    first = arrival.first_event
    fault = "" if outcome in {"completed", "accepted"} else str(arrival.notes.get("error") or outcome)
    measures.answer(turn.model.id, fault, took_s, None if first is None else first - arrival.started)


def route_of(arrival: Arrival) -> str:
    """Return the route that a request went to; what no route is at is "other", whatever it was."""
    path: str = arrival.scope["path"]
    if arrival.scope["type"] == "websocket":
        return f"channel:{channel_of(path)}"
    if path in CHAT_PATHS:
        return CHAT
    return next((route for route in ROUTES if is_below(path, route)), "other")


def channel_of(path: str) -> str:
    """Return which channel a WebSocket's path is of."""
    first = path.lstrip("/").partition("/")[0]
    for mark in ("abp-", "vcp-", "ABP"):
        first = first.removeprefix(mark)
    return _CHANNELS.get(first, "other")


def outcome_of(arrival: Arrival) -> str:
    """Return how a request ended, in one word."""
    return arrival.outcome or _word(arrival.status)


def _word(status: int) -> str:
    if status == 0:
        return "cancelled"
    if status == 499:
        return "interrupted"
    return "completed" if status < 400 else "refused" if status < 500 else "failed"
