"""What the rest of the hub knows of a tool, whoever provides it."""

from typing import Any, Literal, Protocol

import trio
from msgspec import Struct

from apexbridge_trio.flights import Flight

Kind = Literal["plugin", "process", "node"]


class CallbackAddress(Struct, frozen=True):
    """Where a plugin that answers later brings its result.

    Args:
        base_url: Ends with the token as a segment (``…/plugin-callback/~<token>``), for plugins
            that can only append to it.
        token: The same token, for plugins that can send a header. A secret: it is good for one task.
    """

    base_url: str
    token: str


class CallContext(Struct, frozen=True):
    """What a call knows of the request it is made for.

    Args:
        flight: The call's own, entered by who calls. What the tool knows of its end goes into
            `flight.remarks`, and from there into the receipt.
        callback: Absent where nobody would wait for a late result.
    """

    flight: Flight
    callback: CallbackAddress | None = None


class Pending(Struct, frozen=True):
    """The tool's answer that its result comes later, to the callback address.

    Args:
        task_id: As the plugin named it; unchecked.
        running: What goes on after the answer. Closing it ends every process of the call and waits
            until none is left, also when the closing task is cancelled. Whoever takes the answer
            closes it once the task is settled; until then it ends by itself when it expires.
    """

    task_id: str
    running: trio.abc.AsyncResource | None = None


class Later(Struct, frozen=True):
    """How a result that comes by callback is waited for, as the manifest of a hybrid plugin says.

    Args:
        wait_s: Seconds a chat waits before the model is told that the task is pending.
        expires_s: Seconds until a callback comes too late; None: `callbacks.expires_s`.
        attempts: How often the tool is called in all while its callbacks say failed and a chat
            waits. 1: a failure is told, to the waiter or to the owner (``on_failure = "notify"``).
        backoff_s: Seconds before the second attempt, doubled before each one after it.
        max_output_bytes: What the model is given of a result; the rest is on disk.
    """

    wait_s: float = 30.0
    expires_s: float | None = None
    attempts: int = 1
    backoff_s: float = 1.0
    max_output_bytes: int = 64 * 1024


class Tool(Protocol):
    """Something a model may call: a plugin's, or a node's."""

    @property
    def name(self) -> str:
        """What the model calls it; unique in the hub."""
        ...

    @property
    def description(self) -> str:
        """What the model reads to decide whether to call it."""
        ...

    @property
    def parameters(self) -> dict[str, Any]:
        """JSON Schema of the arguments object."""
        ...

    @property
    def plugin(self) -> str:
        """Who provides it."""
        ...

    @property
    def kind(self) -> Kind:
        """What a call of it is, in the live tree and in receipts."""
        ...

    @property
    def max_execution_s(self) -> float:
        """Seconds after which a call is cancelled."""
        ...

    @property
    def idempotent(self) -> bool:
        """Whether a second call with the same arguments does no harm."""
        ...

    @property
    def later(self) -> Later | None:
        """How a late result is waited for; None: its calls are given no callback address."""
        ...

    async def call(self, arguments: dict[str, Any], context: CallContext) -> Any | Pending:
        """Run it once and return its result, a JSON value, or that it comes later.

        Cancellation: passed on to the tool; when this returns, the tool has ended.

        Raises:
            ToolFailed: It ran, or was refused, and there is no result; the message is for the model.
            ToolTimeout: It was still running after `max_execution_s`.
        """
        ...
