"""Frames of a client's device."""

import pytest

from apexbridge_trio.errors import NotFound
from apexbridge_trio.protocol.client import (
    Ack,
    ChatAsked,
    InterruptRequest,
    Ping,
    Resume,
    Subscribe,
    nothing_to_stop,
    read_client_frame,
)
from apexbridge_trio.protocol.envelope import FrameInvalid


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"type":"resume","data":{"epoch":"e","seq":3}}', Resume("e", 3)),
        ('{"type":"subscribe","data":{"topics":["chat"]}}', Subscribe(["chat"])),
        ('{"type":"subscribe"}', Subscribe(None)),
        ('{"type":"ack","data":{"id":"evt_1"}}', Ack("evt_1")),
        ('{"type":"interrupt","data":{"path":"r/llm","waitS":1}}', InterruptRequest(path="r/llm", wait_s=1)),
        (b'{"type":"ping","data":{"more":1}}', Ping()),
        ('{"type":"chat","data":{"messages":[]}}', ChatAsked(b'{"messages":[]}')),
        ('{"type":"chat"}', ChatAsked(b"{}")),
    ],
)
def test_each_frame(text, value):
    assert read_client_frame(text) == value


@pytest.mark.parametrize(
    "text", ["", "{", "3", '{"type":"x"}', '{"type":"ack","data":{"id":"a b"}}', b"\xff"]
)
def test_what_is_none(text):
    with pytest.raises(FrameInvalid):
        read_client_frame(text)


def test_what_is_not_there_to_be_stopped():
    told = nothing_to_stop(InterruptRequest(path="r/llm"), NotFound("No."))
    assert (told["requestId"], told["reason"], told["success"]) == ("r", "not_found", False)
    assert nothing_to_stop(InterruptRequest(task_id="t"), NotFound("No."))["requestId"] == "t"
