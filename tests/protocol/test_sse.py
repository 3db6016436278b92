"""Any chunking of an event stream decodes the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbridge_trio.errors import UpstreamBroken
from apexbridge_trio.protocol import sse
from apexbridge_trio.protocol.sse import Blocks, encode_event, payloads


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in zip(edges, edges[1:], strict=False)]


def decode(parts: list[bytes]) -> list[bytes]:
    blocks = Blocks()
    return [payload for part in parts for payload in payloads(blocks.feed(part))]


LINE = st.binary(max_size=40).map(lambda raw: raw.replace(b"\r", b"").replace(b"\n", b""))
CUTS = st.lists(st.integers(0, 10_000), max_size=12)


@given(st.lists(LINE, max_size=6), CUTS, st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_chunking_and_any_line_end_gives_the_same_events(lines, places, line_end):
    stream = b"".join(encode_event(line) for line in lines).replace(b"\n", line_end)
    assert decode(cut(stream, places)) == lines


@given(st.binary(max_size=400), CUTS)
def test_any_bytes_decode_the_same_in_any_chunking(data, places):
    assert decode(cut(data, places)) == decode([data])


def test_reads_comments_fields_bom_and_several_data_lines():
    stream = b"\xef\xbb\xbfdata:one\n\n: a comment\n\nevent: x\nid: 3\n\nretry: 1\ndata: two\ndata:  three\n\ndata\n\n"
    assert decode([stream]) == [b"one", b"two\n three", b""]


def test_a_cut_event_is_pending_and_not_told():
    blocks = Blocks()
    assert blocks.feed(b"data: one\n\ndata: tw") == b"data: one\n\n"
    assert blocks.pending
    assert blocks.feed(b"o\n\n") == b"data: two\n\n"
    assert not blocks.pending


def test_a_crlf_split_between_reads_is_one_line_end():
    assert decode([b"data: a\r", b"\n\r", b"", b"\ndata: b\r\n\r\n"]) == [b"a", b"b"]


def test_an_endless_event_is_refused(monkeypatch):
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    blocks = Blocks()
    with pytest.raises(UpstreamBroken, match="larger than 100 bytes"):
        for _ in range(20):
            blocks.feed(b"data: xxxxxxxxxx")
