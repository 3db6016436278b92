"""A socket as a stream: what it says of each end, and that it never touches another's socket."""

import contextlib
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from apexbridge_trio import plain
from apexbridge_trio.plain import PlainStream


@contextlib.asynccontextmanager
async def pair() -> AsyncIterator[tuple[PlainStream, trio.SocketStream]]:
    near, far = trio.socket.socketpair()
    async with PlainStream(trio.SocketStream(near)) as ours, trio.SocketStream(far) as theirs:
        yield ours, theirs


async def test_bytes_go_both_ways_and_an_end_is_an_end() -> None:
    async with pair() as (ours, theirs):
        await ours.send_all(b"question")
        await theirs.send_all(b"answer")
        assert await theirs.receive_some() == b"question"
        assert await ours.receive_some(3) == b"ans"
        assert await ours.receive_some() == b"wer"
        await ours.send_eof()
        assert await theirs.receive_some() == b""
        await theirs.send_all(b"late")
        await theirs.aclose()
        assert await ours.receive_some() == b"late"
        assert await ours.receive_some() == b""


async def test_a_write_that_is_not_taken_at_once_waits_for_the_peer() -> None:
    sent = bytes(range(256)) * 16_384
    async with pair() as (ours, theirs), trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_all, sent)
        await wait_all_tasks_blocked()
        came = bytearray()
        while len(came) < len(sent):
            came += await theirs.receive_some()
        assert came == sent


async def test_a_second_sender_is_refused_while_the_first_waits_and_writes_nothing() -> None:
    sent = bytes(4 * 1024 * 1024)
    async with pair() as (ours, theirs), trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_all, sent)
        await wait_all_tasks_blocked()
        came = bytearray(await theirs.receive_some(65536))  # now the kernel has room
        with pytest.raises(trio.BusyResourceError):
            await ours.send_all(b"late")
        with pytest.raises(trio.BusyResourceError):
            ours.send_nowait(b"late")
        while len(came) < len(sent):
            came += await theirs.receive_some()
        assert came == sent
    async with pair() as (ours, _theirs):
        with trio.move_on_after(0):
            await ours.send_all(sent)
        assert ours.send_nowait(b"x") == 0  # the next one may, once the kernel has room


async def test_a_read_that_waits_ends_with_the_close_and_with_a_cancellation() -> None:
    async with pair() as (ours, _theirs), trio.open_nursery() as nursery:

        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await ours.receive_some()

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        ours.socket.close()
    async with pair() as (ours, _theirs):
        with trio.CancelScope() as scope:
            scope.cancel()
            await ours.receive_some()
        assert scope.cancelled_caught


async def test_closed_between_the_wait_and_the_read_nobody_elses_bytes_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pair() as (ours, theirs), contextlib.AsyncExitStack() as others:

        async def closed_meanwhile(_number: int) -> None:
            ours.socket.close()
            numbers: set[int] = set()
            while _number not in numbers:  # lower ones, which somebody else gave up, are taken first
                another, its_peer = await others.enter_async_context(pair())
                numbers = {another.socket.fileno(), its_peer.socket.fileno()}
            await another.send_all(b"not ours")
            await its_peer.send_all(b"not ours")

        await theirs.send_all(b"ours")
        monkeypatch.setattr(plain, "wait_readable", closed_meanwhile)
        with pytest.raises(trio.ClosedResourceError):
            await ours.receive_some()
        monkeypatch.undo()


async def test_what_is_lost_or_closed_is_said_in_trios_words() -> None:
    async with pair() as (ours, theirs):
        await ours.send_all(b"unread")
        theirs.socket.close()  # with bytes unread: the kernel resets
        with pytest.raises(trio.BrokenResourceError):
            await ours.send_all(b"x")
        with pytest.raises(OSError):  # noqa: PT011  # which of two words it is, is the kernel's
            ours.send_nowait(b"x")
        with pytest.raises(trio.BrokenResourceError):
            await ours.receive_some()
    with pytest.raises(trio.ClosedResourceError):
        await ours.receive_some()
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"x")
