"""Callbacks as plugins word them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbridge_trio.errors import BadRequest
from apexbridge_trio.protocol.callback import STATUS_WORDS, read_callback


def read(**fields):
    return read_callback(json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("success", "success"), ("Succeed", "success"), ("completed", "success"), ("failed", "failed"),
        ("Failed", "failed"), ("PollingTimeout", "failed"), ("error", "failed"), ("progress", "progress"),
    ],
)  # fmt: skip
def test_every_word_of_the_contract(word, status):
    assert read(status=word).status == status


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ({"output": [1], "result": 2}, [1]),
        ({"result": {"a": 1}}, {"a": 1}),
        ({"result": None}, None),
        ({"videoUrl": "x", "message": "done"}, {"videoUrl": "x", "message": "done"}),
    ],
)
def test_the_result_is_where_plugins_put_it(fields, value):
    assert read(status="success", **fields).value == value


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"error": "no disk", "message": "x"}, "no disk"),
        ({"error": {"code": "E", "message": "no disk"}}, "no disk"),
        ({"error": {"code": "E"}}, '{"code":"E"}'),
        ({"message": "no disk"}, "no disk"),
        ({"result": "no disk"}, "no disk"),
        ({}, "The plugin did not say why."),
        ({"error": "x" * 3000}, "x" * 2000),
    ],
)
def test_why_it_failed(fields, message):
    assert read(status="failed", **fields).message == message


def test_progress_has_a_share_and_a_message():
    half = read(status="progress", progress=0.5, message="移动文件")
    assert (half.progress, half.message) == (0.5, "移动文件")
    assert read(status="progress").progress is None
    assert read(status="progress", progress=1).message == ""


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"null", b"{", b"{}", b'{"status": 1}', b'{"status": "maybe"}', b'{"status": null}',
        b'{"status": "success", "a": NaN}', b"\xff", b"[" * 100_000,
        b'{"status": "progress", "progress": 2}', b'{"status": "progress", "progress": true}',
        b'{"status": "progress", "progress": "half"}',
    ],
)  # fmt: skip
def test_what_is_no_callback_is_refused(body):
    with pytest.raises(BadRequest):
        read_callback(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=5), st.sampled_from(sorted(STATUS_WORDS)))
def test_order_and_spacing_make_no_other_result(fields, word):
    fields = {**fields, "status": word}
    fields.pop("progress", None)
    other = dict(reversed(fields.items()))
    body = json.dumps(other, indent=3).encode()
    assert read_callback(body).digest == read(**fields).digest
    assert read(**fields, more=1).digest != read(**fields).digest or "more" in fields
