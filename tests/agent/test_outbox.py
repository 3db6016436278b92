import trio

from apexbridge_trio.agent import outbox as room
from apexbridge_trio.agent.outbox import KeptResult, Outbox


async def drained(outbox: Outbox) -> list[object]:
    found: list[object] = []
    with trio.move_on_after(1):
        while True:
            found.append(await outbox.next())
    return found


async def test_a_sign_of_life_goes_first_and_lines_go_last(autojump_clock):
    outbox = Outbox()
    outbox.post_line(b"line")
    outbox.post(b"accepted")
    outbox.post(KeptResult("t"))
    outbox.post(b"more")
    outbox.post_beat(b"old")
    outbox.post_beat(b"new")
    assert await drained(outbox) == [b"new", b"accepted", KeptResult("t"), b"more", b"line"]


async def test_who_waits_is_woken(autojump_clock):
    outbox = Outbox()
    async with trio.open_nursery() as nursery:
        for post in (outbox.post, outbox.post_beat, outbox.post_line):

            async def wait():
                assert await outbox.next() == b"x"

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            post(b"x")
            await trio.testing.wait_all_tasks_blocked()
            assert not nursery.child_tasks


def test_lines_over_the_bound_are_dropped_and_counted(monkeypatch):
    monkeypatch.setattr(room, "MOST_LINES", 2)
    outbox = Outbox()
    for _ in range(5):
        outbox.post_line(b"line")
    assert outbox.dropped_lines == 3


async def test_a_hub_that_does_not_read_is_noticed(monkeypatch, autojump_clock):
    monkeypatch.setattr(room, "MOST", 2)
    monkeypatch.setattr(room, "MOST_BYTES", 100)
    outbox = Outbox()
    outbox.post(b"x" * 99)
    outbox.post(KeptResult("t"))
    assert not outbox.is_over
    outbox.post(b"xx")
    assert outbox.is_over
    await drained(outbox)
    assert not outbox.is_over
    for _ in range(3):
        outbox.post(KeptResult("t"))
    assert outbox.is_over
