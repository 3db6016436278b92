"""What a message may hold."""

from typing import Any

import pytest

from apexbridge_trio.protocol.openai import is_content

TEXT = {"type": "text", "text": "x"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        ([TEXT], True),
        ([TEXT, IMAGE], True),
        ([{"type": "input_audio", "input_audio": {}}, {"type": "file", "file": {}}], True),
        ([], False),
        ("text", False),
        (TEXT, False),
        ([TEXT, "x"], False),
        ([{"type": "text"}], False),
        ([{"type": "event", "event": 1}], False),
        ([{"type": ["text"]}], False),
        ([{"text": "x"}], False),
    ],
)
def test_content_parts(value: Any, is_one: bool) -> None:
    assert is_content(value) is is_one
