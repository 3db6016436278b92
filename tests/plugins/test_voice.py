"""What a process says beside its answer, on the virtual clock."""

import trio

from apexbridge_trio.log import capture, get_logger
from apexbridge_trio.plugins.voice import MAX_LINES, MINUTE_S, Voice


async def test_what_is_up_for_long_is_heard_again_after_a_minute(autojump_clock) -> None:
    voice = Voice(get_logger("test"), "")
    with capture() as lines:
        for _ in range(MAX_LINES + 5):
            voice.say(b"busy")
        assert (len(lines), voice.last) == (MAX_LINES, "busy")
        await trio.sleep(MINUTE_S)
        voice.say(b"an hour later")
    assert [line["event"] for line in lines[MAX_LINES:]] == ["plugin said more", "plugin said"]
    assert (lines[-2]["lines"], lines[-1]["text"]) == (5, "an hour later")
