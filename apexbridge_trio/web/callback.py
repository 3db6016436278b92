"""``POST /plugin-callback/{plugin}/{taskId}``: where plugins bring what they have done.

An ASGI callable like the chat endpoint, since what is signed is the raw body. Who comes is asked in
the order of what it costs: the task's token, a key with the scope `callback`, and, once the body is
there, a signature with the plugin's secret. One of them is enough; a plugin that can only append to
its address carries the token as a segment of it, ``/plugin-callback/~<token>/{plugin}/{taskId}``.
"""

import time
from functools import partial
from typing import Any, Final

import trio
from msgspec import Struct

from apexbridge_trio.errors import (
    ApexError,
    Forbidden,
    MethodNotAllowed,
    NotFound,
    SignatureInvalid,
    TaskGone,
    TaskSettled,
    Unauthenticated,
)
from apexbridge_trio.hub import Hub
from apexbridge_trio.ledger import Sender, Verdict, Word
from apexbridge_trio.protocol.callback import read_callback
from apexbridge_trio.protocol.openai import encode
from apexbridge_trio.protocol.signature import Signed, check_legacy, check_webhook
from apexbridge_trio.results import is_file_name
from apexbridge_trio.store import NodeTaskRecord
from apexbridge_trio.web.arrival import Arrival, Receive
from apexbridge_trio.web.door import identified, network, slowed, take
from apexbridge_trio.web.guards import CALLBACKS, LOCAL, bearer
from apexbridge_trio.web.reading import read_body, require_json

_SAID: Final[dict[Word, str]] = {
    "accepted": "The result was taken.",
    "progress": "The progress was noted.",
    "overtaken": "The task has its result already; the progress is of no use any more.",
    "duplicate": "This result was taken before.",
}
_NEEDED: Final = "A callback needs the task's token, a key, or the plugin's signature."


class Address(Struct, frozen=True):
    """What the path of a callback says; names in it are checked."""

    plugin: str
    task_id: str
    token: str | None

    @classmethod
    def of(cls, path: str) -> "Address":
        """Read a path.

        Raises:
            NotFound: It is none of a callback, or a part of it is no id.
        """
        parts = path.removeprefix(f"{CALLBACKS}/").split("/")
        token = parts.pop(0)[1:] if parts[0].startswith("~") else None
        if len(parts) != 2 or not all(is_file_name(part) for part in parts):
            raise NotFound(f"A callback is brought to {CALLBACKS}/{{plugin}}/{{taskId}}; ids are plain.")
        return cls(parts[0], parts[1], token)


async def callback(hub: Hub, arrival: Arrival, receive: Receive) -> None:
    """Take one callback; 200 means that its result is on disk.

    Cancellation: it may have been taken all the same; sent again, it is a duplicate.

    Raises:
        ApexError: Why it was not taken; nothing was changed.
    """
    if arrival.scope["method"] != "POST":
        raise MethodNotAllowed("Callbacks are brought with POST.", allowed=["POST"])
    address = Address.of(arrival.scope["path"])
    require_json(arrival)
    headers = _headers(arrival)
    if (task := _of_node(hub, arrival, address)) is not None:
        take(hub, arrival, LOCAL if arrival.is_local else None, "callback")
        taken = read_callback(await read_body(receive, hub.config.callbacks.max_body_bytes))
        await _answer(arrival, address, await hub.nodes.callbacks.accept(task, taken))
        return
    is_signed = bool(headers.keys() & {"webhook-signature", "x-signature"})
    sender = _known(hub, arrival, address, is_signed=is_signed)
    if sender is None:
        _require_proof(hub, arrival, address, is_signed=is_signed)
    by_token = LOCAL if arrival.is_local and sender is not None else None
    take(hub, arrival, arrival.principal or by_token, "callback")
    body = await read_body(receive, hub.config.callbacks.max_body_bytes)
    sender = sender or Sender(signed=_signed(hub, arrival, address.plugin, headers, body))
    taken = read_callback(body)
    verdict = await hub.pendings.accept(address.plugin, address.task_id, taken, sender)
    await _answer(arrival, address, verdict)


async def _answer(arrival: Arrival, address: Address, verdict: Verdict) -> None:
    arrival.notes |= {"plugin": address.plugin, "task_id": address.task_id, "callback": verdict.word}
    await arrival.reply(200, encode(_reply(address, verdict)))


def _of_node(hub: Hub, arrival: Arrival, address: Address) -> NodeTaskRecord | None:
    """Look for the token of a node's task."""
    for token in (address.token, bearer(arrival)):
        task = hub.nodes.callbacks.task_of(token) if token else None
        if task is not None:
            if (task.tool, task.id) != (address.plugin, address.task_id):
                raise Forbidden("This token is another task's.")
            return task
    return None


def _require_proof(hub: Hub, arrival: Arrival, address: Address, *, is_signed: bool) -> None:
    """Refuse who brings no token and no key that is good, unless there is a signature to be looked at.

    A signature can only be looked at with the whole body, so one from an address that is slowed waits.

    Raises:
        TooMany: Too much from this address was wrong.
        Unauthenticated: There is nothing to look at.
    """
    strikes, now, nothing = hub.limiter.strikes, trio.current_time(), Unauthenticated(_NEEDED)
    if bearer(arrival) and not is_signed:  # it was counted when it was looked up
        raise nothing
    if wait_s := strikes.quiet_s(network(hub, arrival), now):
        raise slowed(wait_s)
    if not is_signed:
        if address.token:
            strikes.wrong(network(hub, arrival), now, address.token)
        raise nothing


def _known(hub: Hub, arrival: Arrival, address: Address, *, is_signed: bool) -> Sender | None:
    """Look for a token or a key; None if there is neither that is good here.

    A token is looked up also while its address is slowed: it is used once, so it can not be known from
    before, and a plugin of this machine must not lose its result by the fault of another program here.
    """
    carried = bearer(arrival)
    for token in (address.token, carried):
        task = hub.pendings.task_of(token) if token else None
        if task is not None:
            if (task.plugin, task.task_id or address.task_id) != (address.plugin, address.task_id):
                raise Forbidden("This token is another task's.")
            return Sender(call_id=task.call_id)
    # What is signed may carry a key of the plugin's own (the legacy signature is over it): not one of ours.
    look_up = hub.keys.principal_of if is_signed else partial(identified, hub, arrival)
    arrival.principal = look_up(carried) if carried else None
    if arrival.principal is None:
        return None
    if "callback" not in arrival.principal.scopes:
        raise Forbidden("This key may not bring callbacks; it needs the scope callback.")
    return Sender(principal=arrival.principal)


def _signed(hub: Hub, arrival: Arrival, plugin: str, headers: dict[str, str], body: bytes) -> Signed:
    kept = hub.config.callbacks.signing_secrets.get(plugin, [])
    check = check_webhook if "webhook-signature" in headers else check_legacy
    try:
        return check([secret.reveal() for secret in kept], headers, body, now=time.time())
    except SignatureInvalid:
        hub.limiter.strikes.wrong(network(hub, arrival), trio.current_time())
        raise


def _headers(arrival: Arrival) -> dict[str, str]:
    return {key.decode("latin-1"): value.decode("latin-1") for key, value in arrival.scope["headers"]}


def _reply(address: Address, verdict: Verdict) -> dict[str, Any]:
    """Write the reply to a callback.

    Raises:
        ApexError: It was not taken.
    """
    if verdict.word not in _SAID:
        raise _refusal(verdict)
    said = {"status": "success", "message": _SAID[verdict.word]}
    reply: dict[str, Any] = {**said, "taskId": address.task_id, "plugin": address.plugin}
    return reply | ({"duplicate": True} if verdict.word == "duplicate" else {})


def _refusal(verdict: Verdict) -> ApexError:
    match verdict.word:
        case "conflict":
            return TaskSettled("The task has another result already; the first one stays.")
        case "gone":
            message = f"The task waits for no result any more: {verdict.was}."
            return TaskGone(message, code=f"task_{verdict.was}")
        case "replayed":
            return SignatureInvalid("This signed message was brought to another task before.")
        case _:
            return NotFound("No task of this name waits for a result.")
