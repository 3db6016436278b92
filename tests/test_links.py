"""What all live connections have in common: the reader that only reads."""

from typing import Any

import trio
import trio.lowlevel

from apexbridge_trio.links import FRAMES_A_TURN, hear

MESSAGE = {"type": "websocket.receive", "text": "x"}
GONE = {"type": "websocket.disconnect", "code": 1000}


async def test_what_comes_behind_the_end_of_a_link_counts_no_more() -> None:
    scope, taken = trio.CancelScope(), list[str | bytes]()

    async def receive() -> dict[str, Any]:
        return MESSAGE

    def take(text: str | bytes) -> None:
        taken.append(text)
        scope.cancel(reason="it has said that it leaves")

    with scope:
        await hear(receive, take, scope)
    assert taken == ["x"]
    assert scope.cancelled_caught


async def test_what_comes_in_the_moment_in_which_a_key_ends_counts_no_more() -> None:
    scope, taken = trio.CancelScope(), list[str | bytes]()

    async def receive() -> dict[str, Any]:
        scope.cancel(reason="its key was revoked")
        return MESSAGE

    with scope:
        await hear(receive, taken.append, scope)
    assert not taken
    assert scope.cancelled_caught


async def test_others_have_their_turn_beside_what_has_come_already() -> None:
    messages, turns = [MESSAGE] * (4 * FRAMES_A_TURN) + [GONE], 0

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def beside() -> None:
        nonlocal turns
        while messages:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beside)
        await hear(receive, lambda _: None, nursery.cancel_scope)
    assert turns >= 2
