"""A hub that answers from a script, in a thread: for what runs Trio itself, and for real processes."""

import json
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

# A safety net for a command that never comes, not a bound that is tested.
NET_S = 120.0


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    key: str | None
    body: Any
    request_id: str | None = None


@dataclass
class Reply:
    """What the hub answers; `body` is JSON, or bytes as they are."""

    body: Any
    status: int = 200
    content_type: str = "application/json"


Answer = Reply | Callable[["Exchange"], None]


class Exchange(BaseHTTPRequestHandler):
    """One request and the script's answer to it."""

    server: "FakeHub"
    asked: Asked

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub = self.server
        length = int(self.headers.get("content-length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        key, request_id = self.headers.get("authorization"), self.headers.get("x-request-id")
        self.asked = Asked(self.command, self.path, key, body, request_id)
        hub.asked.append(self.asked)
        hub.begun.set()
        answer = hub.answers.get(
            f"{self.command} {self.path}", Reply(envelope("There is nothing here."), 404)
        )
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, Reply):
            self.send(answer)
        else:
            answer(self)

    def send(self, reply: Reply) -> None:
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        self.send_header("content-type", reply.content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_events(self, *events: object) -> None:
        """Begin a stream, or go on with it: text is a delta, bytes are raw, the rest is an event."""
        if not hasattr(self, "is_streaming"):
            self.is_streaming = True
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
        for event in events:
            delta = {"choices": [{"index": 0, "delta": {"content": event}}]}
            data = (
                event
                if isinstance(event, bytes)
                else json.dumps(delta if isinstance(event, str) else event).encode()
            )
            self.wfile.write(b"data: " + data + b"\n\n")

    def wait_for_hang_up(self) -> None:
        self.connection.settimeout(NET_S)
        assert self.rfile.read(1) == b""
        self.server.hung_up.set()

    def log_message(self, *_args: object) -> None:
        pass


@dataclass
class FakeHub(ThreadingHTTPServer):
    """Listens on a free port of loopback inside the block.

    Attributes:
        answers: ``"GET /health"`` -> the answer, or a list of answers, one for each time.
        asked: Every request so far.
        interrupted: Set by the script when somebody said stop.
        begun: A request has come.
        stopping: Set by the script when it was asked to interrupt.
        hung_up: A client closed the connection it waited on.
    """

    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    interrupted: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)
    stopping: threading.Event = field(default_factory=threading.Event)
    hung_up: threading.Event = field(default_factory=threading.Event)
    daemon_threads = False

    def __post_init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.interrupted.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say it on stderr, where a test may look for other words; that somebody hangs up is no fault."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def stream(self, *events: object) -> None:
        """Answer each chat with these events and ``[DONE]``."""
        self.answers["POST /v1/chat/completions"] = lambda exchange: exchange.send_events(*events, b"[DONE]")

    def stream_until_interrupted(self, *events: object, receipt: Mapping[str, Any] | None = None) -> None:
        """Answer a chat with these events and then nothing, until ``/v1/interrupt`` gives its receipt."""

        def chat(exchange: Exchange) -> None:
            exchange.send_events(*events)
            assert self.interrupted.wait(NET_S)

        self._until_interrupted("POST /v1/chat/completions", chat, receipt or {})

    def hold_until_interrupted(self, question: str, reply: Reply) -> None:
        """Answer a question when ``/v1/interrupt`` has given its receipt."""

        def hold(exchange: Exchange) -> None:
            assert self.interrupted.wait(NET_S)
            exchange.send(reply)

        self._until_interrupted(question, hold, {})

    def _until_interrupted(self, question: str, answer: Answer, receipt: Mapping[str, Any]) -> None:
        def interrupt(exchange: Exchange) -> None:
            asked = exchange.asked.body
            exchange.send(Reply({**RECEIPT, "requestId": asked["requestId"], **receipt}))
            self.interrupted.set()

        self.answers |= {question: answer, "POST /v1/interrupt": interrupt}


def envelope(message: str, code: str = "not_found", **fields: object) -> dict[str, Any]:
    return {
        "error": {"message": message, "type": "api_error", "code": code, "param": None},
        "request_id": "req_seen",
        **fields,
    }


RECEIPT: dict[str, Any] = {
    "success": True,
    "status": "success",
    "interrupted": True,
    "requestId": "req_1",
    "message": "Everything has stopped.",
    "state": "stopped",
    "tookMs": 12,
    "branches": [{"path": "req_1/round1/llm", "kind": "upstream", "state": "stopped", "ms": 3}],
    "notStopped": [],
}

TREE: dict[str, Any] = {
    "id": "req_1",
    "kind": "chat",
    "name": "chat",
    "startedAt": 1_763_000_000_000,
    "ageMs": 1500,
    "deadlineInMs": 298_500,
    "tenantId": "default",
    "state": "running",
    "children": [
        {
            "id": "req_1/round1/llm",
            "kind": "upstream",
            "name": "[bold]local",
            "startedAt": 1_763_000_000_000,
            "ageMs": 90,
            "deadlineInMs": None,
            "tenantId": "default",
            "state": "stopping",
            "children": [],
        }
    ],
}
