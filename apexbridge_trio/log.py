"""What the hub says while it runs: one sink, and nothing secret or forged gets past it.

Every line, from our rooms and from libraries that use the standard ``logging``, goes the same way:
fields of the request from contextvars, plain values, redaction, rendering, one write. Redaction
works on each text before it is rendered, so no escaping of the renderer can split a secret.

A write blocks the hub while the reader of stderr does not read: journald and terminals do. Whoever
pipes stderr into something slower is the one who waits.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Container, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, TextIO, cast

# structlog 26.1.0 imports rich where there is some, for a renderer that is not used here: a tenth of a
# second of each start. What is None there counts as not installed.
_rich = sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
import structlog  # noqa: E402

if _rich is None:
    del sys.modules["rich"]

from apexbridge_trio.redaction import MASK, hide, redact  # noqa: E402

__all__ = [
    "Format",
    "Level",
    "Logger",
    "bind",
    "capture",
    "configure",
    "get_logger",
    "hide",
    "tap",
    "trace_of",
    "worded",
]

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "text", "json"]
Logger = structlog.typing.FilteringBoundLogger

_LEVELS: dict[Level, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
# One field; a traceback of a deep nursery is about 10 kB. The tail is lost to the reader of the log.
_LONGEST_TEXT = 32_768
_DEEPEST = 6
# Libraries that tell each request at INFO: ours tells it once, with more in it.
_CHATTY = ("httpx", "httpcore", "hypercorn.access")

# Replaced, never changed: other threads log while one is added.
_taps: tuple[Callable[[Mapping[str, Any]], None], ...] = ()

# C0, DEL, C1, line separators, text direction, lone surrogates: what moves a cursor or ends a line.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# `json.dumps` would make an encoder for each value.
_to_json = json.JSONEncoder(ensure_ascii=False).encode
_IN_HEAD = frozenset({"timestamp", "level", "event", "exception"})
_NEEDS_QUOTES = re.compile(r'[\s"=]')
# In lower case: nodes and plugins name their fields as they like.
_SECRET_FIELDS = frozenset(
    [
        "authorization",
        "proxy-authorization",
        "x-api-key",
        "api_key",
        "api-key",
        "apikey",
        "cookie",
        "set-cookie",
        "password",
        "passwd",
        "secret",
        "client_secret",
        "clientsecret",
        "token",
        "access_token",
        "accesstoken",
        "refresh_token",
        "refreshtoken",
        "private_key",
        "privatekey",
    ]
)

_NUMBERS = frozenset({int, float, bool, type(None)})
_WITHOUT_SECRETS = _NUMBERS | {str}


def configure(level: Level = "info", format: Format = "auto", stream: TextIO | None = None) -> None:  # noqa: A002
    """Set the one sink up: for our loggers, those made already too, and for ``logging``'s.

    Args:
        level: The lowest that is written.
        format: ``text`` is key=value, ``json`` one object a line; ``auto`` is ``json`` under systemd.
        stream: Where to; without one, whatever ``sys.stderr`` is when a line is written.
    """
    _set_sink(level, format, stream)
    root = logging.getLogger()
    root.handlers = [_Bridge()]
    root.setLevel(_LEVELS[level])
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def get_logger(room: str) -> Logger:
    """Return the logger of a room; its lines carry ``room=``. It may be made at import time."""
    return cast("Logger", structlog.get_logger(room=room))


def bind(**fields: object) -> AbstractContextManager[None]:
    """Put these fields on every line of this task, and of tasks it starts, inside the block."""
    return structlog.contextvars.bound_contextvars(**fields)


def capture() -> AbstractContextManager[list[MutableMapping[str, Any]]]:
    """Collect what is logged inside the block, of every level, instead of writing it: for tests."""
    return structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars])


@contextmanager
def tap(take: Callable[[Mapping[str, Any]], None]) -> Iterator[None]:
    """Hand each line that is written inside the block to `take` too: plain values, redacted.

    It is called by whoever logs, in whatever thread that is, and must not log itself. The entry is its
    own to keep: nobody changes it any more.
    """
    global _taps  # noqa: PLW0603  # one process, one sink
    _taps = (*_taps, take)
    try:
        yield
    finally:
        # Not equal but the same: a method is made anew each time it is looked up.
        _taps = tuple(one for one in _taps if one is not take)


def worded(entry: Mapping[str, Any], *, without: Container[str]) -> str:
    """Write an entry's event and its fields but for some, in one line that can not be taken for two."""
    fields = [f"{name}={_word(value)}" for name, value in entry.items() if name not in without]
    return _visible(" ".join([str(entry.get("event", "")), *fields]))


def trace_of(entry: Mapping[str, Any]) -> list[str]:
    """Return the lines of an entry's trace, if it has one.

    They are indented, so that no line of an exception's own text can pass for a line of the log.
    """
    return [f"    {_visible(row)}" for row in str(entry.get("exception", "")).split("\n") if row]


def _set_sink(level: Level, format: Format, stream: TextIO | None) -> None:  # noqa: A002
    as_json = format == "json" or (format == "auto" and "JOURNAL_STREAM" in os.environ)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _plain_entry,
            _tapped,
            _as_json if as_json else _as_text,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: _Writer(stream),
        cache_logger_on_first_use=False,
    )


class _Writer:
    """The last step: one write of one whole line."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        stream = self._stream or sys.stderr
        try:
            stream.write(line + "\n")
            stream.flush()
        except (OSError, ValueError):
            # A closed pipe or a closed file: a hub that can not log still answers.
            return

    debug = info = warning = error = critical = msg


class _Bridge(logging.Handler):
    """Hands what libraries log to our sink."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # the library's format and arguments do not fit
            message = f"{record.msg} {record.args}"
        get_logger(record.name).log(record.levelno, message, exc_info=record.exc_info)


def _plain_entry(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> dict[str, Any]:
    # Few lines hold anything to hide, and one look at all texts of a line costs a fifth of one look at each.
    # No pattern reaches over the end of a row, so what would be found in one text is found among all.
    texts = "\n".join([value for value in entry.values() if type(value) is str])
    harmless = _WITHOUT_SECRETS if _text(texts) == texts else _NUMBERS
    # The names are written in our own code; only what they hold can be foreign.
    return {
        name: value
        if type(value) in harmless and name not in _SECRET_FIELDS
        else _field(name, value, depth=1)
        for name, value in entry.items()
    }


def _tapped(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for take in _taps:
        take(entry)
    return entry


def _plain(value: object, *, depth: int) -> Any:
    """Make a value of JSON's types with every text in it redacted and bounded."""
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, bytes):
        return _text(value.decode("utf-8", "replace"))
    if depth < _DEEPEST:
        if isinstance(value, Mapping):
            named = ((_text(str(key)), held) for key, held in value.items())
            return {name: _field(name, held, depth=depth + 1) for name, held in named}
        if isinstance(value, list | tuple | set | frozenset):
            return [_plain(item, depth=depth + 1) for item in value]
    return _text(str(value))


def plain(value: object) -> Any:
    """Return a value as the sink writes it: redacted, and masked where a name stands for a secret."""
    return _plain(value, depth=0)


def _field(name: str, value: object, *, depth: int) -> Any:
    return MASK if name.lower() in _SECRET_FIELDS else _plain(value, depth=depth)


def _text(text: str) -> str:
    # Cut after redaction: half a secret is not recognised.
    text = redact(text)
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"


def _visible(text: str) -> str:
    """Spell out what moves a cursor or ends a line, in a way that JSON reads back."""
    return text if text.isprintable() else _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _as_json(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> str:
    return _visible(_to_json(entry))


def _as_text(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> str:
    line = f"{entry['timestamp']} {entry['level']:<7} {worded(entry, without=_IN_HEAD)}"
    return "\n".join([line, *trace_of(entry)])


def _word(value: object) -> str:
    if type(value) is int or type(value) is float:
        return repr(value)  # as JSON has it, for a fraction of the time
    if not isinstance(value, str):
        return _to_json(value)
    return _to_json(value) if not value or _NEEDS_QUOTES.search(value) else value


# Before the config is read there are things to say already, and structlog's own default is stdout.
_set_sink("info", "auto", None)
