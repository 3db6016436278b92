"""The one interface between a turn and whatever answers it: bytes, as they came.

A provider over TCP and the embedded model both answer with the bytes of OpenAI's HTTP body, so a
turn has one path for both, and what is only passed on is never decoded.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

# Is told that a whole request is with a provider, which works on it and is to be paid; or that it has
# refused it, or is gone.
Asked = Callable[[Literal["sent", "refused"]], None]


def unasked(_what: str) -> None:
    """Hear where a request is, and want nothing of it; an `Asked`."""


class Answer(Protocol):
    """One model call's body, undecoded."""

    @property
    def is_stream(self) -> bool:
        """Whether the body is ``text/event-stream``; else it is one JSON document."""
        ...

    async def receive(self) -> bytes:
        """Return the next bytes of the body, of any length; ``b""`` once it is complete.

        Raises:
            UpstreamError: The body ended early, or nothing came for too long.
        """
        ...


class Source(Protocol):
    """Something that answers chats: an upstream, or the embedded model."""

    @property
    def name(self) -> str:
        """What the config calls it."""
        ...

    def open_answer(
        self, body: bytes, model: str = "", asked: Asked = unasked
    ) -> AbstractAsyncContextManager[Answer]:
        """Ask with a whole ``/chat/completions`` body and hold the answer open inside the block.

        Leaving the block, by any way, ends the call at the other side: nothing goes on behind it.

        Args:
            body: Whole.
            model: The name that is in it, for what is known of one model alone.
            asked: Is told where the request is; of what costs nothing, nothing.

        Raises:
            UpstreamError: On entering: nothing was received, or it was an error.
        """
        ...
