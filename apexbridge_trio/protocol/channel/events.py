"""What an end of the channel hears, and what the hub's end is in any dialect."""

from typing import Any, Literal, Protocol

from msgspec import Struct

from apexbridge_trio.protocol.frames import FromNode, NodeRegistered

State = Literal["connected", "registering", "registered", "refused", "left"]


class Rejected(Struct, frozen=True):
    """A frame that was not taken.

    Args:
        reply: What to answer; empty if nothing.
        message: Why.
    """

    reply: bytes
    message: str


class Ignored(Struct, frozen=True):
    """A frame of a kind that is not known here; newer peers may send some."""

    type: str


class Placeholders(Struct, frozen=True):
    """Texts of a node for prompts, by name."""

    texts: dict[str, str]


class ForwardedCallback(Struct, frozen=True):
    """A plugin's callback that came to a node, which passes it on; `body` is JSON as it came."""

    plugin: str
    task_id: str
    body: bytes


Event = FromNode | Placeholders | ForwardedCallback | Rejected | Ignored


class Dialect(Protocol):
    """The hub's end, whatever the node speaks; what a dialect can not say is empty."""

    state: State
    node_id: str

    def receive(self, text: str | bytes) -> Event | None:
        """Take one frame; None: it is held until the registration is decided."""
        ...

    def admit(self, node_id: str, welcome: NodeRegistered) -> tuple[bytes, list[Event]]:
        """Take the node in; returns the frame that says so, and what was held."""
        ...

    def refuse(self, refusal: NodeRegistered) -> list[bytes]:
        """Do not take it in; returns what is said of that and of what was held."""
        ...

    def say(self, value: Any) -> bytes:
        """Write a frame of the hub's."""
        ...
