"""Reminders of a real hub that is killed with SIGKILL around the time at which they are due."""

import json

import httpx
import pytest
import trio

from apexbridge_trio.identity import Keys
from apexbridge_trio.store import ReminderRows, Store, Tasks
from tests.harness import process
from tests.harness.house import NET_S

COUNT = 20


def due_are_done(state):
    with Store(state) as store:
        return ReminderRows(store).next_due() is None


@pytest.mark.parametrize("kills", [3])
async def test_killed_around_the_due_time_none_is_lost_and_none_doubled(tmp_path, kills):
    with Store(tmp_path) as store:
        key, _ = Keys(store).create(scopes=["chat"])
    async with process.hub(tmp_path) as running:
        async with httpx.AsyncClient(
            base_url=running.url,
            trust_env=False,
            timeout=NET_S,
            headers={"Authorization": f"Bearer {key}"},
        ) as client:
            for number in range(COUNT):
                body = {"text": f"{number}", "in": 0.5 + number / 50}
                assert (await client.post("/v1/reminders", json=body)).status_code == 201
            await until(lambda: owed(tmp_path))
        running.process.kill()
        await running.process.wait()
    for _ in range(kills - 1):
        before = len(owed(tmp_path))
        async with process.hub(tmp_path) as running:
            await until(lambda before=before: due_are_done(tmp_path) or len(owed(tmp_path)) > before)
            running.process.kill()
            await running.process.wait()
    async with process.hub(tmp_path):
        await until(lambda: due_are_done(tmp_path))
    assert sorted(owed(tmp_path), key=int) == [f"{number}" for number in range(COUNT)]
    with Store(tmp_path) as store:
        assert [row[0] for row in store.execute("SELECT fired FROM reminders")] == [1] * COUNT


def owed(state):
    with Store(state) as store:
        return [json.loads(notice.body)["message"] for notice in Tasks(store).notices()]


async def until(is_so):
    """Look at the state directory, where alone a hub that is killed leaves its word, until it says so."""
    with trio.fail_after(NET_S):
        while not is_so():
            await trio.sleep(0.01)
