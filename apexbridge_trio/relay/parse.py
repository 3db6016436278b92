"""One HTTP/1.1 response, sans-IO."""

from typing import Final, NoReturn

import httptools

from apexbridge_trio.errors import UpstreamBroken

# Bytes that bring no body: a head, 1xx answers, chunk extensions, trailers. Twice what nginx and
# Node allow; over it the answer is given up, so that nothing grows in the hub. The last read may
# go over it.
MAX_OVERHEAD_BYTES: Final = 65536


class ResponseParse:
    """Bytes go in; status, headers and pieces of the body come out.

    Args:
        name: What errors call the upstream.

    Attributes:
        status: 0 until a status came; below 200 another one will follow.
        headers: By lower-case name; of a repeated one the first.
        is_complete: The body is whole.
        is_reusable: It ended by HTTP's rules, nothing came behind it, and the provider keeps alive.
    """

    def __init__(self, name: str) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.is_complete = False
        self.is_reusable = False
        self._name = name
        self._parser = httptools.HttpResponseParser(self)
        self._overhead = 0
        self._is_framed = False
        self._pieces: list[bytes] = []

    @property
    def has_head(self) -> bool:
        """Whether the head of the answer itself, no 1xx, has come."""
        return self.status >= 200

    def feed(self, data: bytes) -> None:
        """Take what the provider sent.

        Raises:
            UpstreamBroken: It breaks HTTP's rules, or is headers without end.
        """
        self._overhead += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as fault:
            # Behind a complete answer it only costs the connection.
            self.is_reusable = False
            if not self.is_complete:
                self._break("sent what is no HTTP answer", fault)
        if self._overhead > MAX_OVERHEAD_BYTES and not self.is_complete:
            self._break("sent headers without end")

    def end(self) -> None:
        """Take the end of the connection: right for a body without a length.

        Raises:
            UpstreamBroken: The answer is not whole.
        """
        if not self.has_head or self._is_framed:
            self._break("closed the connection in the middle of its answer")
        self.is_complete = True

    def take(self) -> bytes:
        """Give the bytes of the body not taken so far, in one piece."""
        body = b"".join(self._pieces)
        self._pieces.clear()
        return body

    def close(self) -> None:
        """Take nothing more. The parser holds what it calls: left alone, both wait for the collector."""
        del self._parser

    def _break(self, how: str, cause: Exception | None = None) -> NoReturn:
        raise UpstreamBroken(f"Upstream {self._name} {how}.") from cause

    # What httptools calls. An exception in here stops the parser and fails `feed`.

    def on_message_begin(self) -> None:
        """Begin a 1xx or the answer; there is no third."""
        if self.is_complete:
            raise ValueError("an answer nobody asked for")
        self.headers.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; a trailer is dropped."""
        if not self.has_head:
            self.headers.setdefault(name.lower(), value)

    def on_headers_complete(self) -> None:
        """Learn how the body ends; a coding that is not understood could hide another answer."""
        status = self._parser.get_status_code()
        coding = self.headers.get(b"transfer-encoding")
        if status < 100 or (coding is not None and coding.lower() != b"chunked"):
            raise ValueError("unknown status or transfer coding")
        self._is_framed = coding is not None or b"content-length" in self.headers
        self.status = status
        if self.has_head:
            self._overhead = 0

    def on_body(self, piece: bytes) -> None:
        """Keep a piece of the body."""
        self._pieces.append(piece)
        self._overhead = 0

    def on_message_complete(self) -> None:
        """End the answer; a 1xx ends nothing."""
        if self.has_head:
            self.is_complete = True
            self.is_reusable = self._parser.should_keep_alive()
