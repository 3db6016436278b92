import json

import pytest

from apexbridge_trio.cli.options import json_text
from apexbridge_trio.cli.words import age, duration, one_line, printable, receipt_words, since
from tests.fakes.hub import RECEIPT


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (1500, "1.5 s"),
        (61_000, "1 min 1 s"),
        (3_599_900, "1 h 0 min"),
        (7_260_000, "2 h 1 min"),
    ],
)
def test_durations(ms: float, words: str) -> None:
    assert duration(ms) == words


def test_a_models_text_can_not_command_the_terminal() -> None:
    assert printable("a\tb\n\x1b]0;title\x07\x9b2J\u202e中") == "a\tb\n]0;title2J中"


def test_a_receipt_says_what_stopped_and_what_did_not() -> None:
    assert receipt_words(RECEIPT) == "req_1 stopped in 12 ms\n  upstream req_1/round1/llm: stopped, 3 ms"
    stopping = RECEIPT | {"notStopped": ["req_1/round1/tool:x"], "branches": [], "tookMs": 5001}
    assert (
        receipt_words(stopping)
        == "req_1 is still stopping after 5.0 s\n  not stopped yet: req_1/round1/tool:x"
    )
    assert receipt_words(RECEIPT | {"interrupted": False, "branches": []}) == "req_1 had come to its own end"


def test_a_text_of_several_lines_in_a_table() -> None:
    assert one_line(" No\x1b[2J voice\r\n\ttoday.\u2028") == "No[2J voice today."


def test_half_a_character_can_be_printed_and_read_again() -> None:
    text = json_text({"a": "啦\ud83d"})
    assert text.encode().decode() == text
    assert json.loads(text) == {"a": "啦\ud83d"}


def test_an_age_by_a_clock_that_is_ahead() -> None:
    assert since(None) == ""
    assert since(2**50) == "0 s"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172_800, "2 d")],
)
def test_an_age_has_one_unit(seconds: float, words: str) -> None:
    assert age(seconds) == words
