"""The embedded model's reply as OpenAI's bytes: one document, or the chunks of a stream.

Usage is always zero: no tokens are made or paid for.
"""

import time
from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct
from trio.lowlevel import checkpoint  # noqa: TID251  # sleep(0) by its proper name

from apexbridge_trio.ids import new_id
from apexbridge_trio.protocol.openai import encode
from apexbridge_trio.protocol.sse import DONE, encode_event

# Characters of one content delta: a short answer still arrives as a stream.
PIECE: Final = 24
NO_USAGE: Final = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


class Reply(Struct, frozen=True):
    """What the model says: a text, or a call of one tool with its arguments as JSON text."""

    content: str | None = None
    tool: str = ""
    arguments: str = ""

    @property
    def finish_reason(self) -> str:
        """OpenAI's word for how it ends."""
        return "stop" if self.content is not None else "tool_calls"

    def message(self) -> dict[str, Any]:
        """Return the whole assistant message."""
        message = {"role": "assistant", "content": self.content, "refusal": None}
        return message if self.content is not None else message | {"tool_calls": [self._call()]}

    def deltas(self) -> Iterator[dict[str, Any]]:
        """Yield the message in pieces, the role first."""
        if self.content is None:
            yield {"role": "assistant", "content": None}
            yield {"tool_calls": [{"index": 0, **self._call()}]}
        else:
            yield {"role": "assistant", "content": ""}
            for start in range(0, len(self.content), PIECE):
                yield {"content": self.content[start : start + PIECE]}

    def _call(self) -> dict[str, Any]:
        function = {"name": self.tool, "arguments": self.arguments}
        return {"id": new_id("call"), "type": "function", "function": function}


class IntentAnswer:
    """An `Answer` that is complete from the start; each piece is a chance to be interrupted."""

    def __init__(self, pieces: Iterator[bytes], *, is_stream: bool) -> None:
        self._pieces = pieces
        self._is_stream = is_stream

    @property
    def is_stream(self) -> bool:
        """Whether the body is ``text/event-stream``."""
        return self._is_stream

    async def receive(self) -> bytes:
        """Return the next piece of the body; ``b""`` once it is complete."""
        await checkpoint()
        return next(self._pieces, b"")


def document(reply: Reply, model: str) -> Iterator[bytes]:
    """Yield the reply as one JSON document."""
    choice = {"index": 0, "message": reply.message(), "logprobs": None, "finish_reason": reply.finish_reason}
    yield encode({**_head(model), "object": "chat.completion", "choices": [choice], "usage": NO_USAGE})


def events(reply: Reply, model: str, *, with_usage: bool) -> Iterator[bytes]:
    """Yield the reply as a stream: role, deltas, finish, usage when asked for, ``[DONE]``."""
    head = {**_head(model), "object": "chat.completion.chunk"}
    for delta in reply.deltas():
        yield _event(head, {"index": 0, "delta": delta, "finish_reason": None})
    yield _event(head, {"index": 0, "delta": {}, "finish_reason": reply.finish_reason})
    if with_usage:
        yield encode_event(encode({**head, "choices": [], "usage": NO_USAGE}))
    yield DONE


def _head(model: str) -> dict[str, Any]:
    return {"id": new_id("chatcmpl"), "created": int(time.time()), "model": model}


def _event(head: dict[str, Any], choice: dict[str, Any]) -> bytes:
    return encode_event(encode({**head, "choices": [choice]}))
