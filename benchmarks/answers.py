"""What the provider sends, prepared once: no answer is encoded while something is measured."""

import json
from typing import Final

CHUNKS: Final = {"short": 10, "burst": 1000}
"""Streams that end by themselves, and how many words they have."""
EVERY_NS: Final = {"slow": 500_000_000, "endless": 50_000_000}
"""Streams that only the peer ends, and their pace."""
MODELS: Final = ("chat", *CHUNKS, *EVERY_NS)

_JSON_HEAD = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def reply(value: object, status: bytes = b"200 OK") -> bytes:
    """A whole JSON reply."""
    body = json.dumps(value).encode()
    return _JSON_HEAD % (status, len(body)) + body


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _event(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": "bench"}
    return _chunk(b"data: %s\n\n" % json.dumps({**chunk, "choices": [choice]}).encode())


CHAT_BODY: Final = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "bench",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "All work and no play. " * 16},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 96, "total_tokens": 105},
}
CHAT: Final = reply(CHAT_BODY)
LIST: Final = reply({"object": "list", "data": [{"id": name, "object": "model"} for name in MODELS]})
UNKNOWN: Final = reply({"error": {"message": "unknown model"}}, b"404 Not Found")

STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
WORD: Final = _event({"content": "word "})
_END = _event({}, "stop") + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
STREAMS: Final = {
    model: STREAM_HEAD + _event({"role": "assistant", "content": ""}) + WORD * count + _END
    for model, count in CHUNKS.items()
}
