"""What the fake provider does with a request; the table is in `tests.fakes.upstream`."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

if TYPE_CHECKING:
    from tests.fakes.upstream import FakeUpstream

encode: Final = msgspec.json.encode
SPLIT_TEXT: Final = "今天日程是什么？👩‍👩‍👧 ok"
_OK: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_CHUNKED: Final = _OK + b"Transfer-Encoding: chunked\r\n\r\n"
_SIZED: Final = _OK + b"Content-Length: 2\r\n\r\n{}"

RAW: Final = {
    "continue": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + _SIZED,
    "trailers": _CHUNKED + b"2;ext=1\r\n{}\r\n0\r\nContent-Type: text/event-stream\r\n\r\n",
    "surplus": _SIZED + b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"bad"',
    "upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhi",
    "length-negative": _OK + b"Content-Length: -2\r\n\r\n{}",
    "length-twice": _OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "length-and-chunked": _OK
    + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "coding-unknown": _OK + b"Transfer-Encoding: gzip\r\n\r\n{}",
    "chunk-huge": _CHUNKED + b"fffffffffffffffff\r\n{}",
    "chunk-negative": _CHUNKED + b"-2\r\n{}",
    "status-zero": b"HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\n{}",
    "gzip": _OK + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b",
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n",
}


class HangUp(Exception):
    """Raised by a behaviour: the provider closes the connection now."""


@dataclass
class Request:
    """What the provider was asked."""

    n: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at_ns: int

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.json.decode(self.body) if self.body else {}
        return found

    @property
    def model(self) -> str:
        return str(self.json.get("model", ""))

    @property
    def is_stream(self) -> bool:
        return bool(self.json.get("stream"))

    def shown(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "method": self.method,
            "path": self.path,
            "model": self.model,
            "atNs": self.at_ns,
            "authorization": self.headers.get("authorization", ""),
            "config": self.headers.get("x-config", ""),
            "body": self.json,
        }


@dataclass
class Call:
    """One request, as a behaviour sees it, and what it answers with."""

    provider: "FakeUpstream"
    request: Request
    args: list[str]
    _stream: trio.abc.Stream

    def number(self, n: int, default: int) -> int:
        return int(self.args[n]) if len(self.args) > n else default

    async def send(self, data: bytes) -> None:
        """Write bytes as they are."""
        await self._stream.send_all(data)

    async def whole(
        self, body: bytes, *, status: int = 200, kind: str = "application/json", more: str = ""
    ) -> None:
        """Send a whole answer with a length; `more` holds header lines."""
        head = f"HTTP/1.1 {status} Said\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
        await self.send(head.encode() + body)

    async def fail(self, status: int, message: str, more: str = "") -> None:
        """Send an error in OpenAI's envelope."""
        await self.whole(encode({"error": {"message": message, "type": "fake"}}), status=status, more=more)

    async def begin(self) -> None:
        """Send the head of a stream."""
        await self.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
        )

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def event(self, value: object) -> None:
        """Send one server-sent event, as one HTTP chunk."""
        await self.chunk(b"data: " + encode(value) + b"\n\n")

    async def delta(self, finish: str | None = None, **delta: Any) -> None:
        """Send one `chat.completion.chunk`."""
        await self.event(self._document("chunk", {"index": 0, "delta": delta, "finish_reason": finish}))

    async def done(self) -> None:
        """Send the usage if it was asked for, and `[DONE]`."""
        if (self.request.json.get("stream_options") or {}).get("include_usage"):
            await self.event(self._document("chunk") | {"usage": USAGE})
        await self.chunk(b"data: [DONE]\n\n")

    async def end(self) -> None:
        await self.chunk(b"")

    async def words(self, words: Iterable[str], pause_ms: int = 0) -> None:
        """Send the head and the words of a stream, without its end."""
        await self.begin()
        await self.delta(role="assistant", content="")
        for word in words:
            await self.delta(content=word)
            await trio.sleep(pause_ms / 1000)

    async def stream(self, words: Sequence[str], pause_ms: int = 0) -> None:
        """Send a whole stream."""
        await self.words(words, pause_ms)
        await self.delta("stop")
        await self.done()
        await self.end()

    async def say(self, words: Sequence[str], pause_ms: int = 0) -> None:
        """Answer in the form that was asked for."""
        if self.request.is_stream:
            await self.stream(words, pause_ms)
        else:
            await trio.sleep(pause_ms * len(words) / 1000)
            await self.whole(self.document("".join(words)))

    def document(self, content: str | None, finish: str = "stop", **more: Any) -> bytes:
        """Build a whole `chat.completion`."""
        message = {"role": "assistant", "content": content} | more
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return encode(self._document("", choice) | {"usage": USAGE})

    def _document(self, kind: str, *choices: dict[str, Any]) -> dict[str, Any]:
        name = f"chat.completion.{kind}".rstrip(".")
        return {
            "id": f"chatcmpl-{self.request.n}",
            "object": name,
            "created": 1,
            "model": self.request.model,
            "choices": choices,
        }


USAGE: Final = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
Behaviour = Callable[[Call], Awaitable[None]]
BEHAVIOURS: Final[dict[str, Behaviour]] = {}


def behaviour(*names: str) -> Callable[[Behaviour], Behaviour]:
    def register(it: Behaviour) -> Behaviour:
        BEHAVIOURS.update(dict.fromkeys(names, it))
        return it

    return register


@behaviour("hello")
async def hello(call: Call) -> None:
    await call.say(["Hello ", "from ", f"{call.request.model}."])


@behaviour("echo")
async def echo(call: Call) -> None:
    await call.say([str(call.request.json["messages"][-1]["content"])])


@behaviour("stream")
async def stream(call: Call) -> None:
    await call.say([f"w{n} " for n in range(call.number(0, 3))], call.number(1, 0))


@behaviour("endless")
async def endless(call: Call) -> None:
    await call.words([])
    n = 0
    while True:
        await call.delta(content=f"w{n} ")
        await trio.sleep(call.number(0, 10) / 1000)
        n += 1


@behaviour("held")
async def held(call: Call) -> None:
    await call.words(["w0 ", "w1 ", "w2 "])
    await call.provider.go.wait()
    await call.delta(content="w3 ")
    await call.delta("stop")
    await call.done()
    await call.end()


@behaviour("flaky")
async def flaky(call: Call) -> None:
    asked = call.provider.counts[call.request.model]
    if asked <= call.number(0, 1):
        await call.fail(call.number(1, 500), "try again")
    else:
        await hello(call)


@behaviour("status")
async def status(call: Call) -> None:
    more = f"Retry-After: {call.args[1]}\r\n" if len(call.args) > 1 else ""
    await call.fail(call.number(0, 500), "as you wish", more)


@behaviour("dead")
async def dead(call: Call) -> None:
    raise HangUp


@behaviour("dead-head")
async def dead_head(call: Call) -> None:
    await call.send(b"HTTP/1.1 200 OK\r\nContent-Ty")
    raise HangUp


async def _half(call: Call) -> None:
    """Send the first part of an answer in the form that was asked for."""
    if call.request.is_stream:
        await call.words([f"w{n} " for n in range(call.number(0, 1))])
    else:
        body = call.document("half of it")
        await call.send(_OK + b"Content-Length: %d\r\n\r\n" % len(body) + body[: len(body) // 2])


@behaviour("dead-mid")
async def dead_mid(call: Call) -> None:
    await _half(call)
    raise HangUp


@behaviour("stall")
async def stall(call: Call) -> None:
    await trio.sleep_forever()


@behaviour("stall-mid")
async def stall_mid(call: Call) -> None:
    await _half(call)
    await trio.sleep_forever()


@behaviour("split")
async def split(call: Call) -> None:
    size = call.number(0, 1)
    if call.request.is_stream:
        await call.words([])
        write, body = call.chunk, b"data: " + encode(call._document("chunk", _choice(SPLIT_TEXT))) + b"\n\n"
    else:
        body = call.document(SPLIT_TEXT)
        await call.send(_OK + b"Content-Length: %d\r\n\r\n" % len(body))
        write = call.send
    for start in range(0, len(body), size):
        await write(body[start : start + size])
        await trio.sleep(0.001)
    if call.request.is_stream:
        await call.delta("stop")
        await call.done()
        await call.end()


def _choice(content: str) -> dict[str, Any]:
    return {"index": 0, "delta": {"content": content}, "finish_reason": None}


@behaviour("json")
async def json(call: Call) -> None:
    await call.whole(call.document("Hello as JSON."))


@behaviour("sse")
async def sse(call: Call) -> None:
    await call.stream(["Hello ", "as ", "a stream."])


@behaviour("no-done")
async def no_done(call: Call) -> None:
    await call.words(["Hello."])
    await call.delta("stop")
    await call.end()


@behaviour("hold-open")
async def hold_open(call: Call) -> None:
    await call.words(["Hello."])
    await call.delta("stop")
    await call.done()
    await trio.sleep_forever()


@behaviour("error-event")
async def error_event(call: Call) -> None:
    await call.words(["Hello."])
    await call.event({"error": {"message": "the model fell over", "code": 500}})
    await call.end()


@behaviour("garbage")
async def garbage(call: Call) -> None:
    await call.send(b"\x16\x03\x01\x00garbage\r\n\r\n")


@behaviour("garbage-json")
async def garbage_json(call: Call) -> None:
    await call.whole(b'{"choices": [{]')


@behaviour("garbage-stream")
async def garbage_stream(call: Call) -> None:
    await call.begin()
    await call.chunk(b"data: {not json\n\n: comment\n\nevent: x\ndata: <html>\n\n\xff\xfe\n\n")
    await call.end()


@behaviour("hangup")
async def hangup(call: Call) -> None:
    await hello(call)
    raise HangUp


@behaviour("close")
async def close(call: Call) -> None:
    await call.whole(call.document("Bye."), more="Connection: close\r\n")
    raise HangUp


@behaviour("until-close")
async def until_close(call: Call) -> None:
    await call.send(_OK + b"\r\n" + call.document("Until I close."))
    raise HangUp


@behaviour("endless-headers")
async def endless_headers(call: Call) -> None:
    await call.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        await call.send(b"X-More: " + b"x" * 1000 + b"\r\n")
        await trio.sleep(0.001)


@behaviour("tools")
async def tools(call: Call) -> None:
    messages, how = call.request.json["messages"], set(call.args)
    if messages[-1]["role"] == "tool" and "forever" not in how:
        said = [str(message["content"]) for message in messages if message["role"] == "tool"]
        await call.say(["Tools said: ", " | ".join(said)])
        return
    asked = next(message["content"] for message in reversed(messages) if message["role"] == "user")
    calls = [_tool_call(n, line, how) for n, line in enumerate(asked.splitlines())]
    if not call.request.is_stream:
        await call.whole(call.document(None, "tool_calls", tool_calls=calls))
        return
    await call.words([])
    for n, one in enumerate(calls):
        for piece in _pieces({} if "no-index" in how else {"index": n}, one, how):
            await call.delta(tool_calls=[piece])
    await call.delta("tool_calls")
    await call.done()
    await call.end()


def _tool_call(n: int, line: str, how: set[str]) -> dict[str, Any]:
    name, _, arguments = line.partition(" ")
    function = {"name": name, "arguments": arguments or "{}"}
    made: dict[str, Any] = {
        "id": "call_0" if "same-id" in how else f"call_{n}",
        "type": "function",
        "function": function,
    }
    if "no-id" in how:
        del made["id"]
    return made


def _pieces(index: dict[str, int], call: dict[str, Any], how: set[str]) -> list[dict[str, Any]]:
    """Cut a call into deltas; without an index only whole ones can be told apart."""
    if how & {"whole", "no-index"}:
        return [index | call]
    arguments = call["function"]["arguments"]
    first = index | call | {"function": call["function"] | {"arguments": ""}}
    cuts = [arguments[start : start + 5] for start in range(0, len(arguments), 5)]
    return [first, *(index | {"function": {"arguments": cut}} for cut in cuts)]
