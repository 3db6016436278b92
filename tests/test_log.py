"""One sink: every line, of ours and of libraries, whole, redacted and impossible to forge."""

import errno
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from apexbridge_trio import log, redaction

SECRET = "correct-horse-battery"


@pytest.fixture(autouse=True)
def own_sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    monkeypatch.setattr(redaction, "_hidden", {})
    monkeypatch.setattr(redaction, "_longest_first", ())
    root = logging.getLogger()
    before, level, ours = root.handlers, root.level, structlog.get_config()
    yield
    root.handlers = before
    root.setLevel(level)
    structlog.configure(**ours)


def line_of(style: log.Format, event: str, **fields: Any) -> str:
    stream = io.StringIO()
    log.configure("debug", style, stream)
    log.get_logger("chat").info(event, **fields)
    return stream.getvalue()


def entry_of(event: str, **fields: Any) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads(line_of("json", event, **fields))
    return entry


def test_text_is_key_value() -> None:
    line = line_of("text", "request finished", status=200, outcome="ok", model="a b", tools=["x"], note="")
    time, rest = line.split(" ", 1)
    assert time.endswith("Z")
    assert (
        rest == 'info    request finished room=chat status=200 outcome=ok model="a b" tools=["x"] note=""\n'
    )


def test_json_is_one_object_a_line() -> None:
    entry = entry_of("请求完成", durationMs=1.5, none=None, yes=True)
    assert entry.pop("timestamp")
    expected = {
        "level": "info",
        "event": "请求完成",
        "room": "chat",
        "durationMs": 1.5,
        "none": None,
        "yes": True,
    }
    assert entry == expected


def test_auto_is_json_under_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    assert line_of("auto", "hello").endswith("info    hello room=chat\n")
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    assert json.loads(line_of("auto", "hello"))["event"] == "hello"


def test_a_logger_made_before_obeys_what_is_configured_later(capsys: pytest.CaptureFixture[str]) -> None:
    logger = log.get_logger("early")
    log.configure("warning", "text")
    logger.info("not this")
    logger.warning("this")
    out, err = capsys.readouterr()
    assert out == ""
    assert "not this" not in err
    assert "this room=early" in err


def test_fields_of_the_request_are_on_each_line_inside_the_block() -> None:
    with log.bind(request_id="req_1"):
        assert entry_of("inside")["request_id"] == "req_1"
    assert "request_id" not in entry_of("outside")


def test_a_secret_is_masked_wherever_it_stands() -> None:
    log.hide(SECRET)

    class Peer:
        def __str__(self) -> str:
            return f"peer with {SECRET}"

    line = line_of(
        "json",
        f"event {SECRET}",
        nested={"list": [f"Bearer {SECRET}", (SECRET,), {SECRET}], SECRET: b"raw " + SECRET.encode()},
        headers={"Authorization": "Basic dTpw", "Cookie": "a=b", "X-Api-Key": "k"},
        peer=Peer(),
        deep=[[[[[[[[SECRET]]]]]]]],
        error=ValueError(SECRET),
    )
    assert SECRET not in line
    assert json.loads(line)["headers"] == {"Authorization": "***", "Cookie": "***", "X-Api-Key": "***"}


@pytest.mark.parametrize("at", ["first", "middle", "last"])
@pytest.mark.parametrize(
    "text",
    [
        f"key {SECRET}",
        SECRET.replace("-", "%2d"),
        "Bearer abcdef",
        "bearer.abcdef",
        "apx_abcdef",
        "%61px_abcdef",
        "/client/VCP_Key=abcdef",
        "/client/VCP_Key%3Dabcdef",
        "/plugin-callback/~abcdef/suno/t1",
    ],
)
def test_a_secret_in_one_of_many_texts_is_masked_as_it_is_alone(text: str, at: str) -> None:
    log.hide(SECRET)
    masked = redaction.redact(text)
    assert masked != text
    others = {"first": "aa", "middle": "bb", "last": "cc"}
    entry = entry_of("said", **(others | {at: text}))
    assert {name: entry[name] for name in others} == others | {at: masked}


def test_a_number_under_the_name_of_a_secret_is_masked() -> None:
    assert entry_of("said", cookie=1234, api_key=1234, port=1234)["api_key"] == "***"


def failing(message: str) -> None:
    try:
        raise ExceptionGroup("several", [RuntimeError(message)])  # noqa: TRY301  # a traceback is wanted
    except ExceptionGroup:
        log.get_logger("chat").exception("failed")


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_secret_in_an_exception_is_masked(style: log.Format) -> None:
    log.hide(SECRET)
    stream = io.StringIO()
    log.configure("info", style, stream)
    failing(f"key {SECRET} refused")
    assert "key *** refused" in stream.getvalue()
    assert "Traceback" in stream.getvalue()


def test_an_exceptions_text_can_not_pass_for_a_line() -> None:
    stream = io.StringIO()
    log.configure("info", "text", stream)
    failing("one\n2026-11-22T00:00:00Z error   forged")
    first, *rest = stream.getvalue().splitlines()
    assert "failed" in first
    assert all(line.startswith("    ") for line in rest)


CONTROLS = "\n\r\x1b[2J\x00\x7f\x85\x9b\u2028\u202e\u2066\ud800"


@pytest.mark.parametrize("style", ["text", "json"])
def test_control_characters_are_spelt_out(style: log.Format) -> None:
    line = line_of(style, f"a{CONTROLS}b", **{"field": CONTROLS, f"na{CONTROLS}me": 1})
    assert line.count("\n") == 1
    assert not set(CONTROLS) & set(line[:-1]) - set("[2J")
    line.encode()


@given(st.text())
def test_any_text_is_one_line_and_is_read_back_from_json(text: str) -> None:
    line = line_of("json", "event", value=text)
    assert len(line.splitlines()) == 1
    if text == redaction.redact(text):
        assert json.loads(line)["value"] == text
    assert len(line_of("text", text, value=text).splitlines()) == 1


def test_a_text_without_end_is_cut() -> None:
    assert len(line_of("json", "event", value="x" * 1_000_000)) < 40_000


def test_what_libraries_log_comes_by_the_same_way() -> None:
    log.hide(SECRET)
    stream = io.StringIO()
    log.configure("info", "json", stream)
    logging.getLogger("hypercorn.error").warning("refused %s", SECRET)
    logging.getLogger("some.library").error("%d of them", "not a number")
    logging.getLogger("httpx").info("HTTP Request: POST …")
    logging.getLogger("some.library").debug("too fine")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["room"], line["level"], line["event"]) for line in lines] == [
        ("hypercorn.error", "warning", "refused ***"),
        ("some.library", "error", "%d of them ('not a number',)"),
    ]


class BrokenPipe(io.StringIO):
    def write(self, _text: str) -> int:
        raise OSError(errno.EPIPE, "Broken pipe")


def test_a_stream_that_can_not_be_written_is_no_fault() -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (BrokenPipe(), closed):
        log.configure("info", "text", stream)
        log.get_logger("chat").info("lost")


def test_capture_collects_instead_of_writing(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "text")
    with log.bind(request_id="req_1"), log.capture() as lines:
        log.get_logger("chat").warning("careful", n=1)
    assert lines == [
        {"room": "chat", "event": "careful", "n": 1, "request_id": "req_1", "log_level": "warning"}
    ]
    assert capsys.readouterr().err == ""
