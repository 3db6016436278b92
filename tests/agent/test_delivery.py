"""What the hub has said of the results that one link has sent."""

from msgspec import Raw

from apexbridge_trio.agent.delivery import Delivery
from apexbridge_trio.agent.kept import SMALL_BYTES, Kept
from apexbridge_trio.protocol.frames import TaskResult


async def keep(kept: Kept, task_id: str, size: int = 1) -> None:
    await kept.keep(TaskResult(task_id, result=Raw(b'"%s"' % (b"x" * size))))


async def test_only_a_large_one_that_was_sent_is_to_blame(tmp_path):
    kept = Kept(tmp_path)
    delivery = Delivery(kept)
    await keep(kept, "small")
    await keep(kept, "large", SMALL_BYTES + 1)
    await keep(kept, "larger", SMALL_BYTES + 2)
    await delivery.load("small")
    assert delivery.largest() == ""
    await delivery.load("large")
    await delivery.load("larger")
    assert delivery.largest() == "larger"
    delivery.acknowledged("larger")
    assert delivery.largest() == "large"
    assert list(kept) == ["small", "large"]


async def test_what_was_not_taken_is_owed_once_and_only_if_it_is_still_kept(tmp_path):
    kept = Kept(tmp_path)
    delivery = Delivery(kept)
    await keep(kept, "one")
    await keep(kept, "other")
    for task_id in ("other", "one"):
        delivery.not_taken(task_id)
    kept.drop("other")
    assert delivery.take_owed() == ["one"]
    assert delivery.take_owed() == []
    assert await delivery.load("other") is None
