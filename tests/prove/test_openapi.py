"""The document held against the running hub, for longer: no 500, no answer outside its schema."""

from pathlib import Path
from typing import Any

import pytest

from tests.harness.house import house
from tests.harness.schemathesis import TRIGGER, attack

pytestmark = pytest.mark.prove
EXAMPLES = 200


@pytest.mark.parametrize("known", [False, True], ids=["unknown ids", "known ids"])
async def test_no_answer_is_outside_the_document(tmp_path: Path, capsys: Any, *, known: bool) -> None:
    async with house(tmp_path, TRIGGER) as home, home.node("attic"):
        found, cases = await attack(home, tmp_path, "--max-examples", str(EXAMPLES), known=known)
        with capsys.disabled():
            print(f"\nasked for {'known' if known else 'unknown'} ids: {cases}")
        assert not found, found
        assert (await home.get("/health"))["status"] == "ok"
