"""The search for the one JSON document in an output."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apexbridge_trio.plugins.document import Document
from apexbridge_trio.plugins.output import Output

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
NOISE = st.text().filter(lambda text: not text.lstrip().startswith("{") and "\n{" not in text)


def search(*parts: bytes, limit: int = 1000) -> Document:
    document = Document(limit)
    for part in parts:
        document.feed(part)
    return document


def found(*parts: bytes, limit: int = 1000) -> Any:
    output = search(*parts, limit=limit).output()
    return None if output is None else output.within(limit)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b'  {"a": 1} and more', {"a": 1}),
        (b'[INFO] starting {"b": 2}\n[1/3] go\n{"a": 1}\nbye\n', {"a": 1}),
        (b'{\n  "a": {\n    "b": [1, {}]\n  }\n}\n', {"a": {"b": [1, {}]}}),
        (b'{not json}\n{"a": 1}', {"a": 1}),
        (b'{"a": 1}\n{"b": 2}', {"a": 1}),
        (b'{"a": "}\\"}\\\\"}', {"a": '}"}\\'}),
        (b"[1, 2]\n", [1, 2]),
        (b'[\n{"a": 1},\n{"b": 2}]', {"a": 1}),
        (b'"text"', "text"),
        (b" 7 ", 7),
        (b"null\n", None),
        (b"", None),
        (b"hello", None),
        (b'{"a": ', None),
        (b'{"a": \xff}', None),
        (b"1 2", None),
    ],
)
def test_what_is_found(text: bytes, value: Any) -> None:
    assert found(text) == value
    assert found(*[text[at : at + 1] for at in range(len(text))]) == value


@settings(max_examples=40)
@given(NOISE, st.dictionaries(st.text(), JSON), NOISE, st.data())
def test_any_object_is_found_in_any_chunks_between_any_lines(
    before: str, value: Any, after: str, data: st.DataObject
) -> None:
    text = json.dumps(value, indent=data.draw(st.none() | st.just(2))).encode()
    whole = before.encode() + (b"\n" if before else b"") + text
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    document = search(*parts, limit=100_000)
    assert document.is_complete, "with its last brace"
    document.feed(after.encode())
    assert document.output() == Output(text, len(text))


@given(st.binary())
def test_any_bytes_are_searched(data: bytes) -> None:
    document = search(data, limit=10)
    output = document.output()
    assert output is None or len(output.json) <= 10
    assert isinstance(document.beginning, str)


@pytest.mark.parametrize(
    "text", [b'{"a": "\xd6\xd0"}', b'"\xff"', b'{"a": ' + b"[" * 9000 + b"]" * 9000 + b"}"]
)
def test_json_that_nobody_can_read_is_none(text: bytes) -> None:
    assert search(text + b"\n", limit=65_536).output() is None


def test_a_long_object_is_followed_and_not_held() -> None:
    document = search(b'{"a": "', *[b"}x" * 50_000] * 20, limit=100)
    assert not document.is_complete
    document.feed(b'"}')
    assert document.is_complete
    output = document.output()
    assert output is not None
    assert (output.size, len(output.json)) == (2_000_009, 100)


def test_a_long_line_beside_it_is_not_held() -> None:
    document = search(*[b"x" * 50_000] * 20, b'\n{"a": 1}', limit=100)
    assert document.output() == Output(b'{"a": 1}', 8)


def test_a_list_over_the_limit_is_cut() -> None:
    output = search(b"[", b"1," * 1000, b"1]", limit=100).output()
    assert output is not None
    told = output.within(100)
    assert told["cut"].startswith("The result has 2003 bytes, the limit is 100")
    assert told["beginning"] == "[" + "1," * 49 + "1"


def test_a_cut_is_never_half_a_letter() -> None:
    text = '{"a": "' + "家" * 10 + '"}'
    assert Output(text.encode(), 39).within(8)["beginning"] == '{"a": "'
