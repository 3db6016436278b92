"""The hub's events, as they come, over every connection that it takes."""

import json
import sys
from typing import Any
from urllib.parse import urlencode

import httpx
import trio

from apexbridge_trio.cli.exits import Exit, Failure
from apexbridge_trio.cli.hub import client_options, document_of, reaching
from apexbridge_trio.cli.words import local_time, one_line
from apexbridge_trio.protocol.sse import Blocks, payloads

# A hub that was restarted is there again in a moment; one question a second hurts nobody.
_COME_AGAIN_S = 1.0
# The hub sends a sign of life each 10 s; one that says nothing for so long is gone.
_SILENCE_S = 60.0
_OWN = frozenset({"connected", "resumed"})


class Telling:
    """Prints what the hub tells.

    Attributes:
        frames: Of `as_json` without following: what came, to be printed as one document.
    """

    def __init__(self, topics: str, *, follows: bool, as_json: bool) -> None:
        self._follows = follows
        self._as_json = as_json
        query = {"topics": topics} if topics else {}
        self._query = urlencode(query | ({} if follows else {"follow": "false"}))
        self._position = ""
        self.frames: list[Any] = []

    async def run(self) -> None:
        """Print until the hub has said all, or until Ctrl-C; a connection that is lost is made anew.

        Raises:
            Failure: The hub can not be reached at first, or it refuses.
        """
        while True:
            try:
                with reaching():
                    await self._read_once()
            except Failure as fault:
                if not self._position or fault.exit_code is not Exit.UNREACHABLE:
                    raise
            if not self._follows:
                return
            await trio.sleep(_COME_AGAIN_S)

    async def _read_once(self) -> None:
        timeout = httpx.Timeout(_SILENCE_S, connect=5.0)
        headers = {"Last-Event-ID": self._position} if self._position else {}
        async with (
            httpx.AsyncClient(**client_options() | {"timeout": timeout}) as client,
            client.stream("GET", f"/v1/events?{self._query}", headers=headers) as reply,
        ):
            if reply.status_code == 503 and self._position:
                return  # it is about to end, and another will be there
            if reply.status_code != 200:
                document_of(reply.status_code, await reply.aread())
            blocks = Blocks()
            async for data in reply.aiter_bytes():
                for payload in payloads(blocks.feed(data)):
                    self._take(json.loads(payload))

    def _take(self, frame: dict[str, Any]) -> None:
        self._position = f"{frame['epoch']}:{frame['seq']}"
        if frame["type"] == "resumed" and not frame["data"]["recovered"]:
            print("apexbridge: something was missed: the hub does not have it any more", file=sys.stderr)
        if frame["type"] in _OWN:
            return
        if self._as_json and not self._follows:
            self.frames.append(frame)
            return
        print(json.dumps(frame, ensure_ascii=False) if self._as_json else _line(frame), flush=True)


def _line(frame: dict[str, Any]) -> str:
    data = frame["data"]
    said = data.get("message") or data.get("content") or data.get("delta", {}).get("content")
    if said is None:
        said = ", ".join(f"{name} {value}" for name, value in data.items() if isinstance(value, str | int))
    elif data.get("title"):
        said = f"{data['title']}: {said}"
    return f"{local_time(frame['timestamp'])}  {frame['type']:<14} {one_line(str(said))}"
