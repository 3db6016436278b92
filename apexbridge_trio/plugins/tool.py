"""What the rest of the hub knows of a tool, whoever provides it."""

from typing import Any, Protocol


class Tool(Protocol):
    """Something a model may call: a plugin's function now, a node's later."""

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
    def max_execution_s(self) -> float:
        """Seconds after which a call is cancelled."""
        ...

    @property
    def idempotent(self) -> bool:
        """Whether a second call with the same arguments does no harm."""
        ...

    async def call(self, arguments: dict[str, Any]) -> Any:
        """Run it once and return its result, a JSON value.

        Cancellation: passed on to the tool; when this returns, the tool has ended.

        Raises:
            ToolFailed: It ran, or was refused, and there is no result; the message is for the model.
            ToolTimeout: It was still running after `max_execution_s`.
        """
        ...
