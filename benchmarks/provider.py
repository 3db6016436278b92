"""A model provider that is never the limit: prepared bytes, one thread, one selector.

It looks at two things in a request and at nothing else. The field `model` says what to send:

| model     | answer                                                                     |
|-----------|----------------------------------------------------------------------------|
| `chat`    | a JSON chat of about 600 bytes                                             |
| `short`   | a stream of 10 chunks, at once                                             |
| `burst`   | a stream of 1,000 chunks, as fast as they are taken                        |
| `slow`    | two chunks a second until the peer closes, evenly spread over the streams  |
| `endless` | a chunk each 50 ms until the peer closes                                   |

The words "named NAME" anywhere name a `slow` or `endless` stream (no field but the messages passes every
gateway): `GET /closed` answers `{NAME: ns}`, the `time.monotonic_ns`, one clock for all processes, at
which that stream was seen to be closed by its peer. `GET /reset` hangs up on every stream that is still
open, and forgets the names.
"""

import re
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from benchmarks import answers
from benchmarks.beats import Beats

READ: Final = 65536

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_MODEL = re.compile(rb'"model" *: *"(\w+)"')
_NAME = re.compile(rb"named ([\w-]+)")


class Peer:
    """One connection."""

    def __init__(self, provider: "Provider", connection: socket.socket) -> None:
        self.provider = provider
        self.connection = connection
        self.received = b""
        self.unsent = memoryview(b"")
        self.stream = ""  # the name of the paced stream it is in

    def on_event(self, mask: int) -> None:
        try:
            if mask & selectors.EVENT_WRITE:
                self.send(b"")
            if mask & selectors.EVENT_READ:
                self.read()
        except ConnectionError:
            self.end()

    def read(self) -> None:
        data = self.connection.recv(READ)
        if not data:
            raise ConnectionResetError("the peer has closed")
        self.received += data
        while (head_end := self.received.find(b"\r\n\r\n") + 4) >= 4:
            length = _LENGTH.search(self.received, 0, head_end)
            end = head_end + (int(length[1]) if length else 0)
            if len(self.received) < end:
                return
            request, self.received = self.received[:end], self.received[end:]
            self.answer(request)

    def answer(self, request: bytes) -> None:
        if request.startswith(b"GET "):
            self.send(self.provider.control(request.split(b" ", 2)[1]))
            return
        found = _MODEL.search(request)
        model = found[1].decode() if found else ""
        if model == "chat":
            self.send(answers.CHAT)
        elif model in answers.STREAMS:
            self.send(answers.STREAMS[model])
        elif model in answers.EVERY_NS:
            self.start_stream(model, request)
        else:
            self.send(answers.UNKNOWN)

    def start_stream(self, model: str, request: bytes) -> None:
        name = _NAME.search(request)
        self.stream = name[1].decode() if name else "nameless"
        self.send(answers.STREAM_HEAD + answers.WORD)
        self.provider.beats.start(self, time.monotonic_ns(), answers.EVERY_NS[model])

    def send(self, data: bytes) -> None:
        """Send what the socket takes; the rest, one stream at most, waits here and hurts nobody else."""
        unsent = memoryview(bytes(self.unsent) + data)
        try:
            self.unsent = unsent[self.connection.send(unsent) :]
        except BlockingIOError:
            self.unsent = unsent
        self.provider.watch(self, is_sending=bool(self.unsent))

    def end(self) -> None:
        self.provider.forget(self)
        self.connection.close()


class Provider:
    """The selector loop, the beats of paced streams, and what was seen of their ends."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.listener.settimeout(0)
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)
        self.port: int = self.listener.getsockname()[1]
        self.watched: dict[Peer, int] = {}  # each connection with the events it is watched for
        self.closed: dict[str, int] = {}
        self.beats: Beats[Peer] = Beats()

    def run(self) -> None:
        while True:
            for key, mask in self.selector.select(self.beats.wait_s(time.monotonic_ns())):
                on_event: Callable[[int], None] = key.data
                on_event(mask)
            self.send_beats()

    def accept(self, _mask: int) -> None:
        connection, _ = self.listener.accept()
        connection.settimeout(0)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = Peer(self, connection)
        self.watched[peer] = selectors.EVENT_READ
        self.selector.register(connection, selectors.EVENT_READ, peer.on_event)

    def watch(self, peer: Peer, *, is_sending: bool) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if is_sending else 0)
        if self.watched[peer] != events:
            self.watched[peer] = events
            self.selector.modify(peer.connection, events, peer.on_event)

    def forget(self, peer: Peer) -> None:
        if peer.stream:
            self.closed[peer.stream] = time.monotonic_ns()
        self.beats.stop(peer)
        del self.watched[peer]
        self.selector.unregister(peer.connection)

    def send_beats(self) -> None:
        for peer in self.beats.take(time.monotonic_ns()):
            try:
                peer.send(answers.WORD)
            except ConnectionError:
                peer.end()

    def control(self, path: bytes) -> bytes:
        if path == b"/closed":
            return answers.reply(self.closed)
        if path == b"/reset":
            self._hang_up()
            return answers.reply({})
        return answers.LIST

    def _hang_up(self) -> None:
        for peer in self.watched:
            if peer.stream or peer.unsent:
                # Not closed here: the selector may hold an event of it for this very round.
                with suppress(OSError):  # its peer may have reset it already
                    peer.connection.shutdown(socket.SHUT_RDWR)
                peer.stream = ""
        self.closed.clear()


if __name__ == "__main__":
    provider = Provider()
    print(f"listening on http://127.0.0.1:{provider.port}", flush=True)
    provider.run()
