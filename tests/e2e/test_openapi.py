"""The document held against the running hub by Schemathesis: no 500, no answer outside its schema."""

from pathlib import Path

import pytest
import trio

from tests.harness.house import NET_S, house
from tests.harness.schemathesis import TRIGGER, attack


@pytest.mark.parametrize("known", [False, True], ids=["unknown ids", "known ids"])
async def test_no_answer_is_outside_the_document(tmp_path: Path, *, known: bool) -> None:
    with trio.fail_after(NET_S * 10):
        async with house(tmp_path, TRIGGER) as home, home.node("attic"):
            found, _ = await attack(home, tmp_path, "--max-examples", "5", "--seed", "1", known=known)
            assert not found, found
            assert (await home.get("/health"))["status"] == "ok"
