import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbridge_trio.errors import UpstreamBroken
from apexbridge_trio.relay.parse import MAX_OVERHEAD_BYTES, ResponseParse

SAID = b"".join(f"data: {n}\n\n".encode() for n in range(20))
SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(SAID), SAID)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % b"".join(
    b"%x\r\n%b\r\n" % (len(SAID[n : n + 7]), SAID[n : n + 7]) for n in range(0, len(SAID), 7)
)
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n" + SAID
EARLY_HINTS = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"


@given(
    st.sampled_from([SIZED, CHUNKED, UNTIL_CLOSE]),
    st.booleans(),
    st.lists(st.integers(min_value=0, max_value=400)),
)
def test_any_chunking_gives_the_same_body(sent: bytes, hints: bool, cuts: list[int]) -> None:
    data = (EARLY_HINTS if hints else b"") + sent
    parse, body = ResponseParse("fake"), b""
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in zip(edges, edges[1:], strict=False):
        parse.feed(data[start:end])
        body += parse.take()
    if sent is UNTIL_CLOSE:
        assert not parse.is_complete
        parse.end()
    assert body == SAID
    assert parse.is_complete
    assert parse.status == 200
    assert b"link" not in parse.headers
    assert parse.is_reusable is (sent is not UNTIL_CLOSE)


@given(
    st.lists(
        st.binary(max_size=200) | st.sampled_from([SIZED, CHUNKED[:80], EARLY_HINTS, b"\r\n"]), max_size=6
    )
)
def test_any_bytes_give_an_answer_or_an_upstream_error(data: list[bytes]) -> None:
    parse = ResponseParse("fake")
    try:
        for piece in data:
            parse.feed(piece)
        parse.end()
    except UpstreamBroken:
        return
    assert parse.is_complete


def test_of_repeated_headers_the_first_counts_and_names_are_lower() -> None:
    parse = ResponseParse("fake")
    parse.feed(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n")
    assert parse.headers == {b"x-a": b"1", b"content-length": b"0"}


@pytest.mark.parametrize(
    "junk", [b"1;" + b"x" * 100, b"0\r\n" + b"a: b\r\n" * 20], ids=["extension", "trailers"]
)
def test_framing_without_end_is_cut(junk: bytes) -> None:
    parse = ResponseParse("fake")
    parse.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n" + junk)
    more = b"x" * 1000 if b";" in junk else b"a: " + b"b" * 994 + b"\r\n"
    with pytest.raises(UpstreamBroken, match="without end"):
        for _ in range(MAX_OVERHEAD_BYTES // 900):
            parse.feed(more)
