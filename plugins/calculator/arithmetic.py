"""Sums in exact fractions, by a grammar of its own: nothing that is written is ever run.

::

    sum      product { (+ | -) product }
    product  signed { (* | / | mod) signed | signed }     two beside each other are multiplied
    signed   - signed | + signed | power
    power    percent [ ^ signed ]                         from the right: 2^3^2 is 2^9
    percent  atom { % | root }
    atom     number | pi | sqrt atom | ( sum )            root is sqrt, said after its number
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction

# What is larger is no household's sum, and would keep the processor busy. Bits.
MAX_BITS = 4000
# Python's own limit is 1000 calls, of which one pair of brackets takes six.
MAX_DEPTH = 50
# Digits that are shown of a number that has no end.
DIGITS = 12
# Longer numbers are shown as a power of ten.
LONGEST = 40

PI = Fraction(Decimal("3.14159265358979323846264338327950288419716939937510582097494"))
_NUMBER = re.compile(r"\d")


class Impossible(Exception):
    """It can not be worked out; the message says why, to people."""


@dataclass(frozen=True)
class Value:
    """A number, and whether it is exactly that."""

    number: Fraction
    is_exact: bool = True

    @property
    def is_shown_exactly(self) -> bool:
        """Whether `shown` says all of it."""
        return self.is_exact and Fraction(Decimal(shown(self))) == self.number


def evaluate(signs: list[str]) -> Value:
    """Work out an expression.

    Raises:
        Impossible: It is none, divides by zero, or is too large.
    """
    reader = _Reader(signs)
    value = reader.sum()
    if reader.next:
        raise Impossible(f"there is a {reader.next} too many / 多了一个 {reader.next}")
    return value


def shown(value: Value) -> str:
    """Write a number as people do: all its digits if they end, else the first twelve."""
    number = value.number
    with localcontext() as context:
        context.prec = max(LONGEST, DIGITS)
        exactly = Decimal(number.numerator) / Decimal(number.denominator)
        if value.is_exact and Fraction(exactly) == number and -LONGEST < exactly.adjusted() < LONGEST:
            return _plain(exactly)
        context.prec = DIGITS
        rounded = +exactly
        return _plain(rounded) if -DIGITS < rounded.adjusted() < LONGEST else f"{rounded.normalize():e}"


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


class _Reader:
    """Reads the grammar above, one sign ahead."""

    def __init__(self, signs: list[str]) -> None:
        self._signs = signs
        self._at = 0
        self._depth = 0

    @property
    def next(self) -> str:
        return self._signs[self._at] if self._at < len(self._signs) else ""

    def take(self) -> str:
        sign = self.next
        self._at += 1
        return sign

    def sum(self) -> Value:
        value = self.product()
        while self.next in {"+", "-"}:
            value = OPERATIONS[self.take()](value, self.product())
        return value

    def product(self) -> Value:
        value = self.signed()
        while True:
            if self.next in {"*", "/", "mod"}:
                value = OPERATIONS[self.take()](value, self.signed())
            elif self.next in {"(", "sqrt", "pi"}:
                value = OPERATIONS["*"](value, self.power())
            else:
                return value

    def signed(self) -> Value:
        if self.next not in {"+", "-"}:
            return self.power()
        sign = -1 if self.take() == "-" else 1
        value = self._deeper(self.signed)
        return Value(sign * value.number, value.is_exact)

    def power(self) -> Value:
        value = self.percent()
        if self.next == "^":
            self.take()
            return OPERATIONS["^"](value, self._deeper(self.signed))
        return value

    def percent(self) -> Value:
        value = self.atom()
        while self.next in {"%", "root"}:
            is_root = self.take() == "root"
            value = root(value) if is_root else Value(value.number / 100, value.is_exact)
        return value

    def atom(self) -> Value:
        sign = self.take()
        if _NUMBER.match(sign):
            return _bounded(Fraction(sign))
        if sign == "pi":
            return Value(PI, is_exact=False)
        if sign == "sqrt":
            return root(self._deeper(self.atom))
        if sign == "(":
            value = self._deeper(self.sum)
            if self.take() == ")":
                return value
        raise Impossible("something is missing in it / 算式不完整")

    def _deeper(self, rule: Callable[[], Value]) -> Value:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Impossible("it is nested too deep / 嵌套太深")
        value = rule()
        self._depth -= 1
        return value


def root(value: Value) -> Value:
    """Return the square root, exact if it is a fraction.

    Raises:
        Impossible: Of a negative number.
    """
    number = value.number
    if number < 0:
        raise Impossible("a negative number has no square root / 负数没有平方根")
    above, below = math.isqrt(number.numerator), math.isqrt(number.denominator)
    if above**2 == number.numerator and below**2 == number.denominator:
        return Value(Fraction(above, below), value.is_exact)
    shift = 10**80  # forty digits after the point
    return Value(Fraction(math.isqrt(number.numerator * shift // number.denominator), 10**40), is_exact=False)


def _divide(a: Fraction, b: Fraction) -> Fraction:
    if b == 0:
        raise Impossible("nothing can be divided by zero / 不能除以零")
    return a / b


def _remainder(a: Fraction, b: Fraction) -> Fraction:
    return a - b * (_divide(a, b) // 1)


def _power(a: Fraction, b: Fraction) -> Fraction:
    if b.denominator != 1:
        raise Impossible("only whole powers, and sqrt / 只支持整数次方和平方根")
    if (a.numerator.bit_length() + a.denominator.bit_length()) * abs(b) > MAX_BITS:
        raise Impossible("the number is too large / 数字太大")
    return _divide(Fraction(1), a ** -int(b)) if b < 0 else a ** int(b)


def _bounded(number: Fraction, *, is_exact: bool = True) -> Value:
    if number.numerator.bit_length() + number.denominator.bit_length() > MAX_BITS:
        raise Impossible("the number is too large / 数字太大")
    return Value(number, is_exact)


def _exactly(work: Callable[[Fraction, Fraction], Fraction]) -> Callable[[Value, Value], Value]:
    return lambda a, b: _bounded(work(a.number, b.number), is_exact=a.is_exact and b.is_exact)


OPERATIONS: dict[str, Callable[[Value, Value], Value]] = {
    "+": _exactly(lambda a, b: a + b),
    "-": _exactly(lambda a, b: a - b),
    "*": _exactly(lambda a, b: a * b),
    "/": _exactly(_divide),
    "mod": _exactly(_remainder),
    "^": _exactly(_power),
}
