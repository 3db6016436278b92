"""What a process says beside its answer: to the log line by line, bounded, without its call's token."""

from typing import Final

import trio

from apexbridge_trio.log import Logger
from apexbridge_trio.redaction import MASK

# Lines that it may put into the log within a minute, and letters of each. Who says more is not held up
# and not heard: the rest is lost to the reader of the log. By the minute, for what is up for months.
MAX_LINES: Final = 200
MINUTE_S: Final = 60.0
MAX_LETTERS: Final = 1000
_READ: Final = 65_536


class Voice:
    """What one process says, of a call or of what stays up.

    Attributes:
        last: The last line, for the message of a failure.
        ended: Set at its end, while `run` runs.
    """

    def __init__(self, log: Logger, secret: str) -> None:
        self._log = log
        self._secret = secret
        self._unfinished = b""
        self._lines = 0
        self._since = trio.current_time()
        self.last = ""
        self.ended = trio.Event()

    async def run(self, stderr: trio.abc.ReceiveStream) -> None:
        """Read until the end: a process is never held up by what it says."""
        while data := await stderr.receive_some(_READ):
            *lines, rest = (self._unfinished + data).split(b"\n")
            # A line that does not end is told in parts.
            self._unfinished = b"" if len(rest) > MAX_LETTERS else rest
            for line in lines if self._unfinished else [*lines, rest]:
                self.say(line)
        self.say(self._unfinished)
        self._tell_rest()
        self.ended.set()

    def say(self, line: bytes) -> None:
        """Put one line into the log, as far as there is room."""
        text = line[: MAX_LETTERS * 4].decode("utf-8", "replace").strip()[:MAX_LETTERS]
        if not text:
            return
        if trio.current_time() - self._since >= MINUTE_S:
            self._tell_rest()
        self.last = text.replace(self._secret, MASK) if self._secret else text
        self._lines += 1
        if self._lines <= MAX_LINES:
            self._log.info("plugin said", text=self.last)

    def _tell_rest(self) -> None:
        """Tell how much was left out, and begin to count anew."""
        if self._lines > MAX_LINES:
            self._log.info("plugin said more", lines=self._lines - MAX_LINES)
        self._lines, self._since = 0, trio.current_time()
