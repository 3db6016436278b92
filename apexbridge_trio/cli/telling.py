"""The hub's events, as they come."""

import json
import sys
from typing import Any

from apexbridge_trio.cli.following import Following
from apexbridge_trio.cli.words import local_time, one_line

_OWN = frozenset({"connected", "resumed"})


class Telling:
    """Prints what the hub tells.

    Attributes:
        frames: Of `as_json` without following: what came, to be printed as one document.
    """

    def __init__(self, topics: str, *, follows: bool, as_json: bool) -> None:
        self._follows = follows
        self._as_json = as_json
        self._following = Following("/v1/events", {"topics": topics}, self._take, follows=follows)
        self.frames: list[Any] = []

    async def run(self) -> None:
        """Print until the hub has said all, or until Ctrl-C.

        Raises:
            Failure: The hub can not be reached at first, or it refuses.
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        await self._following.run()

    def _take(self, frame: dict[str, Any]) -> None:
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
