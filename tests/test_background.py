"""Chats that nobody waits for: bounds, owners, and what is held of them."""

import gc
import weakref

import pytest
import trio

from apexbridge_trio import background
from apexbridge_trio.background import Backgrounds
from apexbridge_trio.errors import Overloaded
from apexbridge_trio.flights import Flights
from apexbridge_trio.identity import Principal
from apexbridge_trio.log import capture

ANNE = Principal(id="anne", tenant_id="a", scopes=frozenset({"chat"}))
ROOT = Principal(id="root", tenant_id="b", scopes=frozenset({"admin"}))


class Request:
    """Holds what a chat brought, until it is answered."""

    async def answer(self, flight):
        await trio.lowlevel.checkpoint()
        return b'"an answer"'


async def start(backgrounds, request_id, owner=ANNE):
    backgrounds.start(request_id, owner, Request().answer, timeout_s=10)
    await trio.testing.wait_all_tasks_blocked()


async def test_a_kept_result_does_not_hold_its_request(autojump_clock):
    backgrounds = Backgrounds(Flights(), keep_s=60)
    async with trio.open_nursery() as nursery:
        await nursery.start(backgrounds.run)
        request = Request()
        is_there = weakref.ref(request)
        backgrounds.start("one", ANNE, request.answer, timeout_s=10)
        del request
        await trio.testing.wait_all_tasks_blocked()
        gc.collect()
        assert backgrounds.find("one", ANNE).result
        assert is_there() is None
        await trio.sleep(61)
        assert len(backgrounds) == 0
        nursery.cancel_scope.cancel(reason="the test is over")


@pytest.mark.parametrize(("name", "bound"), [("MAX_KEPT", 2), ("MAX_KEPT_BYTES", 20)])
async def test_when_it_is_full_new_ones_are_refused(autojump_clock, monkeypatch, name, bound):
    monkeypatch.setattr(background, name, bound)
    backgrounds = Backgrounds(Flights(), keep_s=60)
    async with trio.open_nursery() as nursery:
        await nursery.start(backgrounds.run)
        await start(backgrounds, "one")
        await start(backgrounds, "two")
        with pytest.raises(Overloaded):
            await start(backgrounds, "three")
        await trio.sleep(61)
        await start(backgrounds, "three")
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_of_two_with_the_same_id_ones_own_is_found(autojump_clock):
    backgrounds = Backgrounds(Flights(), keep_s=60)
    async with trio.open_nursery() as nursery:
        await nursery.start(backgrounds.run)
        await start(backgrounds, "same", ANNE)
        await start(backgrounds, "same", ROOT)
        assert backgrounds.find("same", ROOT).owner is ROOT
        assert backgrounds.find("same", ANNE).owner is ANNE
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_the_end_of_each_is_one_line(autojump_clock):
    backgrounds = Backgrounds(Flights(), keep_s=60)
    async with trio.open_nursery() as nursery:
        await nursery.start(backgrounds.run)
        with capture() as lines:
            await start(backgrounds, "one")
        (line,) = lines
        assert (line["request_id"], line["outcome"], line["bytes"]) == ("one", "completed", 11)
        nursery.cancel_scope.cancel(reason="the test is over")
