"""The household's notes, talked to through the embedded model."""

from pathlib import Path
from typing import Any

import pytest

from tests.test_intents import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.mark.parametrize(
    ("said", "tool", "arguments"),
    [
        ("看看家庭备忘", "household_notes", {}),
        ("家里的备忘录里有什么？", "household_notes", {}),
        ("记住垃圾周二早上收", "household_remember", {"note": "垃圾周二早上收"}),
        ("请记住：Lea 对坚果过敏，别忘了。", "household_remember", {"note": "Lea 对坚果过敏，别忘了"}),
        ("把钥匙在鞋柜记到备忘里", "household_remember", {"note": "钥匙在鞋柜"}),
        ("忘掉垃圾周二早上收", "household_forget", {"note": "垃圾周二早上收"}),
        ("把垃圾从备忘里删掉", "household_forget", {"note": "垃圾"}),
        ("What is in our notes?", "household_notes", {}),
        ("What do you know about our home?", "household_notes", {}),
        (
            "Please remember that the bins go out on Tuesday.",
            "household_remember",
            {"note": "the bins go out on Tuesday"},
        ),
        ("Add 'no nuts, ever' to the family notes", "household_remember", {"note": "'no nuts, ever'"}),
        ("Forget about the bins", "household_forget", {"note": "the bins"}),
        ("Remove the bins from our notes", "household_forget", {"note": "the bins"}),
    ],
)
async def test_what_is_said_is_understood(home: Home, said: str, tool: str, arguments: Any) -> None:
    assert await home.call(said) == (tool, arguments)


async def test_a_conversation_in_chinese(home: Home) -> None:
    assert await home.turn("看看家庭备忘") == "家庭备忘是空的。"
    assert await home.turn("记住垃圾周二早上收") == "记住了：垃圾周二早上收（共 1 条）。"
    await home.turn("记住垃圾袋在厨房")
    assert await home.turn("备忘里有什么") == "家庭备忘有 2 条：垃圾周二早上收；垃圾袋在厨房。"
    assert await home.turn("忘掉垃圾") == "有 2 条符合，没有删除。是哪一条：垃圾周二早上收；垃圾袋在厨房？"
    assert await home.turn("忘掉垃圾袋") == "已从备忘中删除：垃圾袋在厨房。"
    assert await home.turn("忘掉海王星") == "备忘里没有“海王星”，没有删除任何内容。"


async def test_a_conversation_in_english(home: Home) -> None:
    assert await home.turn("What is in our notes?") == "There are no household notes."
    assert (
        await home.turn("Remember that bins go on Tuesday")
        == "I will remember: bins go on Tuesday (1 in all)."
    )
    await home.turn("Remember that bin bags are in the kitchen")
    assert (await home.turn("List our notes")).startswith("2 household notes: bins go on Tuesday; ")
    assert (await home.turn("Forget about bin")).startswith("2 notes fit, nothing was removed. Which one: ")
    assert await home.turn("Forget about the bags") == (
        'There is no note like "the bags"; nothing was removed.'
    )
    assert await home.turn("Forget about bin bags") == (
        "Removed from the notes: bin bags are in the kitchen."
    )
