"""What a prompt may cost, where nobody has said."""

from typing import Any

import pytest
from msgspec import Raw
from msgspec.json import encode

from apexbridge_trio.protocol.estimate import BYTES_A_TOKEN, MEDIA_TOKENS, prompt_tokens


def estimated(*messages: dict[str, Any], **fields: Any) -> int:
    return prompt_tokens({"messages": Raw(encode(messages)), **fields})


def said(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_text_counts_by_its_bytes() -> None:
    empty = estimated(said(""))
    assert 0 < empty < 15
    assert estimated(said("word " * 800)) == pytest.approx(1000 + empty, abs=1)
    assert estimated(said("\u5bb6" * 400)) == pytest.approx(300 + empty, abs=1)
    assert estimated(said([{"type": "text", "text": "word " * 800}])) > 1000


def test_the_tools_that_are_offered_are_of_the_prompt() -> None:
    tool = Raw(b'{"type":"function","function":{"name":"lamp","description":"' + b"x" * 400 + b'"}}')
    assert estimated(said("hi"), tools=[tool]) > estimated(said("hi")) + 100
    assert estimated(said("hi"), tools=None) == estimated(said("hi"))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400_000}},
        {"type": "input_audio", "input_audio": {"data": "B" * 400_000, "format": "wav"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64," + "C" * 400_000}},
    ],
)
def test_a_picture_is_no_text(part: dict[str, Any]) -> None:
    text = {"type": "text", "text": "what is this?"}
    assert MEDIA_TOKENS <= estimated(said([text, part])) < MEDIA_TOKENS + 60
    assert MEDIA_TOKENS * 2 <= estimated(said([part, text]), said([part])) < MEDIA_TOKENS * 2 + 120


def test_a_small_picture_counts_by_its_bytes() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400}}
    assert 100 < estimated(said([part])) < 150


def test_no_text_can_look_like_a_picture() -> None:
    text = '"url":"' + "A" * 400_000 + '"'
    assert estimated(said(text)) > 400_000 // BYTES_A_TOKEN
    assert estimated(said([{"type": "text", "text": text}])) > 400_000 // BYTES_A_TOKEN
