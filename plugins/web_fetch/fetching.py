"""One GET, with redirects, to addresses that the door has let through; bounded in size and time."""

import http.client
import socket
import ssl
import time
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import quote, urljoin

from door import Door, Refused, Target

MAX_REDIRECTS = 5
# A long article has 300 KB of HTML; the rest of a larger page is not read.
MAX_BYTES = 2 * 1024 * 1024
_READ = 65_536
REDIRECTS = {301, 302, 303, 307, 308}
HEADERS = {
    "User-Agent": "apexbridge-web-fetch/1.0",
    "Accept": "text/html, text/plain, application/json;q=0.9, */*;q=0.1",
    "Accept-Encoding": "identity",  # a small body can not become a huge one
    "Connection": "close",
}


@dataclass(frozen=True)
class Answer:
    """A page as it came."""

    url: str
    content_type: str
    body: bytes
    is_cut: bool


class Fetcher:
    """Fetches one page.

    Args:
        door: Whom it may talk to.
        deadline: In the time of `time.monotonic`, for all of it.
        tls: For tests.
    """

    def __init__(self, door: Door, *, deadline: float, tls: ssl.SSLContext | None = None) -> None:
        self._door = door
        self._deadline = deadline
        self._tls = tls or ssl.create_default_context()

    def get(self, url: str) -> Answer:
        """Return the page at an address.

        Raises:
            Refused: The door is closed, or nothing that can be read came in time.
        """
        for _ in range(MAX_REDIRECTS + 1):
            target = self._door.target(url)
            try:
                found = self._ask(target, url)
            except TimeoutError:
                raise Refused("it took too long / 超时") from None
            except (OSError, http.client.HTTPException) as fault:
                raise Refused(
                    f"{target.host} could not be asked: {type(fault).__name__} / 无法访问"
                ) from None
            if isinstance(found, Answer):
                return found
            if url.startswith("https:") and not found.startswith("https:"):
                raise Refused("it leads from https to http / 拒绝从 https 跳转到 http")
            url = found
        raise Refused("it leads from one address to the next / 跳转次数太多")

    def _ask(self, target: Target, url: str) -> Answer | str:
        """Return the page, or the address it says to ask instead."""
        connection = http.client.HTTPConnection(target.host, target.port)
        connection.sock = sock = self._connect(target)
        with closing(connection):
            connection.request("GET", quote(target.path, safe="/?&=%:;,@+!$'()*~-._#"), headers=HEADERS)
            answer = connection.getresponse()
            if answer.status in REDIRECTS and (place := answer.headers.get("Location")):
                return urljoin(url, place)
            if answer.status != 200:
                raise Refused(f"{target.host} answered {answer.status} / 返回 {answer.status}")
            if answer.headers.get("Content-Encoding", "identity") != "identity":
                raise Refused("the page comes compressed, unasked / 页面被压缩")
            body, is_cut = self._read(answer, sock)
            return Answer(url, answer.headers.get("Content-Type", ""), body, is_cut)

    def _connect(self, target: Target) -> socket.socket:
        raw = socket.create_connection((target.address, target.port), timeout=self._left())
        if target.scheme == "http":
            return raw
        try:
            return self._tls.wrap_socket(raw, server_hostname=target.host)
        except BaseException:
            raw.close()
            raise

    def _read(self, answer: http.client.HTTPResponse, sock: socket.socket) -> tuple[bytes, bool]:
        body = bytearray()
        while len(body) <= MAX_BYTES:
            sock.settimeout(self._left())
            data = answer.read1(_READ)
            if not data:
                return bytes(body), False
            body += data
        return bytes(body[:MAX_BYTES]), True

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left
