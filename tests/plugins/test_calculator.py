"""The calculator: its arithmetic, what it makes of words, and the plugin as a program."""

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from apexbridge_trio.errors import ToolFailed
from tests.harness.clock import net
from tests.plugins.folders import SHIPPED, call_tool, load
from tests.plugins.programs import program_modules
from tests.test_intents import Home


@pytest.fixture(scope="module")
def rooms() -> Any:
    return program_modules("calculator", "words", "arithmetic")


def worked_out(rooms: Any, text: str) -> tuple[str, str]:
    signs = rooms.read(text)
    return rooms.written(signs), rooms.shown(rooms.evaluate(signs))


@pytest.mark.parametrize(
    ("said", "understood", "result"),
    [
        ("1+2*3", "1 + 2 × 3", "7"),
        ("(3+4)*2", "(3 + 4) × 2", "14"),
        ("3+4)*2", "(3 + 4) × 2", "14"),
        ("1+2)*(3+4", "(1 + 2) × (3 + 4)", "21"),
        ("2(3+4)", "2 (3 + 4)", "14"),
        ("-2^2", "-2^2", "-4"),
        ("(-2)^2+-3", "(-2)^2 + - 3", "1"),
        ("2^3^2", "2^3^2", "512"),
        ("2**-2", "2^-2", "0.25"),
        ("0.1+0.2", "0.1 + 0.2", "0.3"),
        (".5+5.", "0.5 + 5", "5.5"),
        ("1,234.5*2", "1234.5 × 2", "2469"),
        ("1/3", "1 ÷ 3", "0.333333333333"),
        ("1/3*3", "1 ÷ 3 × 3", "1"),
        ("10 % 3", "10 mod 3", "1"),
        ("-7 mod 3", "-7 mod 3", "2"),
        ("15% of 240", "15% × 240", "36"),
        ("50%", "50%", "0.5"),
        ("square root of 16", "√16", "4"),
        ("sqrt(2)", "√(2)", "1.41421356237"),
        ("√2*√2", "√2 × √2", "2"),
        ("2π", "2 π", "6.28318530718"),
        ("12 squared minus 3 cubed", "12^2 - 3^3", "117"),
        ("７＋８", "7 + 8", "15"),
        ("3²", "3^2", "9"),
        ("12 x 3 =", "12 × 3", "36"),
        ("2^300", "2^300", "2.03703597633e+90"),
        ("10^-20", "10^-20", "0.00000000000000000001"),
        ("3加5乘以二", "3 + 5 × 2", "13"),
        ("三千二百点五加一亿零三", "3200.5 + 100000003", "100003203.5"),
        ("二〇二六减十二", "2026 - 12", "2014"),
        ("百分之十五的二百四十", "15% × 240", "36"),
        ("16的平方根", "√16", "4"),
        ("3 的 平方", "3^2", "9"),
        ("2 的 3 次方", "2^3", "8"),
        ("二的十次方等于多少？", "2^10", "1024"),
    ],
)
def test_it_is_worked_out(rooms: Any, said: str, understood: str, result: str) -> None:
    assert worked_out(rooms, said) == (understood, result)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "something is missing"),
        ("3+", "something is missing"),
        ("()", "something is missing"),
        ("3 4", "there is a 4 too many"),
        ("1/0", "divided by zero"),
        ("0^-1", "divided by zero"),
        ("7 mod 0", "divided by zero"),
        ("sqrt(0-1)", "no square root"),
        ("2^0.5", "only whole powers"),
        ("9^9^9", "too large"),
        ("9" * 300 + "^9", "too large"),
        ("9" * 1500, "too large"),
        ("(" * 300, "nested too deep"),
        ("-" * 300 + "1", "nested too deep"),
        ('__import__("os")', "no arithmetic: __import__"),
        ("3 apples", "no arithmetic: apples"),
    ],
)
def test_what_is_not_possible_is_said(rooms: Any, said: str, why: str) -> None:
    with pytest.raises(Exception, match=why):
        worked_out(rooms, said)


@given(st.lists(st.sampled_from([*"0123456789.+-*/^%() 三百的,", "sqrt", "mod", "pi"]), max_size=40))
def test_whatever_is_said_it_answers_or_says_why(rooms: Any, parts: list[str]) -> None:
    with suppress(rooms.Impossible):
        _, result = worked_out(rooms, "".join(parts))
        assert Fraction(result) is not None


@given(st.integers(0, 99_999_999), st.sampled_from("+-*"), st.integers(0, 99_999_999))
def test_whole_numbers_are_exact(rooms: Any, a: int, sign: str, b: int) -> None:
    expected = {"+": a + b, "-": a - b, "*": a * b}[sign]
    assert worked_out(rooms, f"{a}{sign}{b}")[1] == str(expected)


async def test_the_program(tmp_path: Path, mock_clock: MockClock) -> None:
    plugins = load(SHIPPED, state=tmp_path)
    tool = plugins.tools["calculator"]
    with net(60):  # its own 10 s do not pass meanwhile
        told = await call_tool(tool, {"expression": "(3+4)×2"})
        assert told == {"expression": "(3 + 4) × 2", "result": "14", "exact": True}
        assert not (await call_tool(tool, {"expression": "1/3"}))["exact"]
        with pytest.raises(ToolFailed, match="不能除以零"):
            await call_tool(tool, {"expression": "1/0"})
        for arguments in ({}, {"expression": ""}, {"expression": "1" * 301}, {"expression": 1}):
            with pytest.raises(ToolFailed) as caught:
                await call_tool(tool, arguments)
            assert caught.value.code == "invalid_arguments"


@pytest.mark.parametrize(
    ("said", "expression"),
    [
        ("计算 (3+4)×2", "3+4)×2"),
        ("3加5等于几？", "3加5"),
        ("请算一下 12 除以 4", "12 除以 4"),
        ("15%的240是多少", "15%的240"),
        ("根号16等于多少", "根号16"),
        ("What is 3 plus 4?", "3 plus 4"),
        ("what's 15% of 240?", "15% of 240"),
        ("Calculate (1+2)*(3+4)", "1+2)*(3+4"),
        ("How much is 12 times 12", "12 times 12"),
        ("2^10", "2^10"),
    ],
)
async def test_what_is_said_is_understood(tmp_path: Path, said: str, expression: str) -> None:
    assert await Home(tmp_path).call(said) == ("calculator", {"expression": expression})


async def test_a_conversation(tmp_path: Path, mock_clock: MockClock) -> None:
    home = Home(tmp_path)
    with net(60):  # its own 10 s do not pass meanwhile
        assert await home.turn("计算 (3+4)×2") == "(3 + 4) × 2 = 14"
        assert await home.turn("square root of 2") == "√2 ≈ 1.41421356237"
