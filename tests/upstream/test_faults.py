from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbridge_trio.errors import UpstreamError, UpstreamLimited, UpstreamRefused
from apexbridge_trio.upstream.faults import (
    MAX_SAID_CHARS,
    Said,
    fault_of,
    is_worth_repeating,
    retry_after_s,
    said_in,
    says_it_lives,
)


@pytest.mark.parametrize(
    ("status", "kind", "told", "repeated", "lives"),
    [
        (302, UpstreamRefused, 502, False, True),
        (400, UpstreamRefused, 400, False, True),
        (401, UpstreamRefused, 502, False, True),
        (403, UpstreamRefused, 502, False, True),
        (404, UpstreamRefused, 502, False, True),
        (408, UpstreamError, 502, True, False),
        (413, UpstreamRefused, 413, False, True),
        (422, UpstreamRefused, 422, False, True),
        (429, UpstreamLimited, 429, True, True),
        (500, UpstreamError, 502, True, False),
        (502, UpstreamError, 502, True, False),
        (503, UpstreamError, 502, True, False),
        (504, UpstreamError, 502, True, False),
        (529, UpstreamError, 502, True, False),
    ],
)
def test_each_status_has_its_meaning(
    status: int, kind: type[UpstreamError], told: int, repeated: bool, lives: bool
) -> None:
    fault = fault_of("fake", status, Said("because", "context_length_exceeded", "messages"), None)
    assert type(fault) is kind
    assert fault.status == told
    assert fault.type == (
        "invalid_request_error"
        if told in {400, 413, 422}
        else "rate_limit_error"
        if told == 429
        else "upstream_error"
    )
    assert (is_worth_repeating(fault), says_it_lives(fault)) == (repeated, lives)
    assert fault.should_retry is (kind is not UpstreamRefused)
    # What finds fault with the request is told in the provider's words, and counted in ours.
    is_the_requests = told in {400, 413, 422}
    assert (fault.told_code == "context_length_exceeded") is is_the_requests
    assert (fault.param == "messages") is is_the_requests
    assert fault.code == kind.code
    assert "fake" in fault.message
    assert ("because" in fault.message) is (status not in {401, 403})


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": {"message": "no *** here"}}',
        b'{"error": "no *** here"}',
        b'{"message": "no *** here"}',
        b'{"detail": "no *** here"}',
        b'"no *** here"',
        b"no *** here",
    ],
)
def test_the_providers_words_are_found_without_the_key(body: bytes) -> None:
    assert said_in(body.replace(b"***", b"sk-hush"), "sk-hush") == Said("no *** here")
    assert said_in(body, "") == Said("no *** here")


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[1]", b'{"error": {"code": 5}}', b'{"detail": [{"loc": []}]}', b"7"]
)
def test_no_words_are_no_words(body: bytes) -> None:
    assert said_in(body, "sk-hush") == Said()


@pytest.mark.parametrize(
    ("code", "param", "said"),
    [
        (
            "context_length_exceeded",
            "messages.[0].content",
            ("context_length_exceeded", "messages.[0].content"),
        ),
        (400, None, ("", "")),
        ("two words", {"a": 1}, ("", "")),
        ("sk-hush", "x" * 101, ("", "")),
        ("ok\n", "", ("", "")),
    ],
)
def test_the_providers_own_word_and_field_are_found(
    code: object, param: object, said: tuple[str, str]
) -> None:
    found = said_in(
        msgspec.json.encode({"error": {"message": "no", "code": code, "param": param}}), "sk-hush"
    )
    assert found == Said("no", *said)


def test_a_page_is_cut() -> None:
    assert len(said_in(b"<html>" * 1000, "").message) == MAX_SAID_CHARS


@given(st.binary())
def test_any_body_gives_words(body: bytes) -> None:
    assert "sk-hush" not in said_in(body + b"sk-hush", "sk-hush").message


def test_a_key_over_the_edge_of_the_cut_is_not_told_in_part() -> None:
    assert "sk-" not in said_in(b"x" * (MAX_SAID_CHARS - 4) + b"sk-hush", "sk-hush").message


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({b"retry-after": b"7"}, 7.0),
        ({b"retry-after": b"0.5"}, 0.5),
        ({b"retry-after": b"9", b"retry-after-ms": b"250"}, 0.25),
        ({b"retry-after": b"9", b"retry-after-ms": b"soon"}, 9.0),
        ({b"retry-after": b"-1"}, None),
        ({b"retry-after": b"inf"}, None),
        ({b"retry-after": b"nan"}, None),
        ({b"retry-after": b"soon"}, None),
        ({b"retry-after": b""}, None),
        ({b"retry-after": b"Sun, 06 Nov 1994 08:49:37 GMT"}, 0.0),
        ({b"retry-after": b"Sun, 06 Nov 1994 08:49:37 -0000"}, 0.0),
    ],
)
def test_retry_after_is_read(headers: Mapping[bytes, bytes], wait_s: float | None) -> None:
    assert retry_after_s(headers) == wait_s


def test_retry_after_as_a_date() -> None:
    began = datetime.now(UTC)
    at = (began + timedelta(days=1)).replace(microsecond=0)
    wait_s = retry_after_s({b"retry-after": format_datetime(at, usegmt=True).encode()})
    assert wait_s is not None
    assert (at - datetime.now(UTC)).total_seconds() <= wait_s <= (at - began).total_seconds()


@given(st.binary())
def test_any_retry_after_is_a_wait_or_none(value: bytes) -> None:
    wait_s = retry_after_s({b"retry-after": value})
    assert wait_s is None or wait_s >= 0
