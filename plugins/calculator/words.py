"""What people write and say, as signs: numbers, ``+ - * / ^ % mod ( )``, ``sqrt`` and ``pi``."""

import re
import unicodedata
from decimal import Decimal
from itertools import pairwise

from arithmetic import Impossible

SAID = {
    "+": "plus|加上|加",
    "-": "minus|减去|减|−|–",
    "*": "times|multiplied by|of|x|×|·|⋅|乘以|乘|的",
    "/": "divided by|over|÷|∕|除以|除",
    "^": "to the power of|**",
    "^ 2": "squared|的平方|平方|²",
    "^ 3": "cubed|的立方|立方|³",
    "%": "percent|per cent",
    "mod": "modulo|mod",
    "sqrt": "square root of|square root|sqrt|√|平方根|根号",
    "root": "的平方根|开方",
    "pi": "pi|π|圆周率",
    "": "the|括号",
}
WORDS = {word: sign for sign, words in SAID.items() for word in words.split("|")}
SIGNS = "+-*/^%()"
DIGITS = {char: at for at, char in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
UNITS = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "亿": 10**8}
HAN_NUMBER = f"[{''.join(DIGITS)}{''.join(UNITS)}]+(?:点[{''.join(DIGITS)}]+)?"

# After an opening bracket, a root or a minus that is a sign; before a closing bracket.
_SPACED = re.compile(r"(?<=[(√]) | (?=\))|(?<=^-) |(?<=\( -) |(?<=\^-) ")
_GAP = re.compile(r"\s+(?=[一-鿿])|(?<=[一-鿿])\s+")
_TOKEN = re.compile(
    r"\s*(?:(?P<percent>百分之(?P<parts>\d+(?:\.\d+)?|" + HAN_NUMBER + r"))"
    r"|(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+\.?\d*|\.\d+)"
    r"|的?(?P<exponent>\d+|" + HAN_NUMBER + r")次方"
    r"|(?P<word>" + "|".join(re.escape(word) for word in sorted(WORDS, key=len, reverse=True)) + r")"
    r"|(?P<han>" + HAN_NUMBER + r")"
    r"|(?P<sign>[" + re.escape(SIGNS) + r"])"
    r"|(?P<end>[=?。？等于多少几\s]*$))"
)


def read(text: str) -> list[str]:
    """Return the signs of an expression, brackets balanced.

    Raises:
        Impossible: There is something in it that is no arithmetic.
    """
    text = _GAP.sub("", "".join(_usual(char) for char in text.casefold()))
    signs: list[str] = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise Impossible(f"this is no arithmetic: {text[at:].strip()[:40]} / 看不懂这部分")
        signs += _signs(found)
        at = max(found.end(), at + 1)
    return balanced([_meant(sign, after) for sign, after in pairwise([*signs, ""])])


def written(signs: list[str]) -> str:
    """Write signs as people do."""
    text = re.sub(r"(\S+) root", r"√ \1", " ".join(signs)).replace("sqrt", "√").replace("pi", "π")
    text = text.replace(" * ", " × ").replace(" / ", " ÷ ").replace(" ^ ", "^").replace(" %", "%")
    return _SPACED.sub("", text)


def balanced(signs: list[str]) -> list[str]:
    """Add the brackets that are missing: those around a spoken expression are not always heard."""
    depth = lowest = 0
    for sign in signs:
        depth += (sign == "(") - (sign == ")")
        lowest = min(lowest, depth)
    return ["("] * -lowest + signs + [")"] * (depth - lowest)


def han_number(text: str) -> str:
    """Return a Chinese numeral in digits: 三千二百点五 is 3200.5.

    Raises:
        Impossible: Its parts are in no order.
    """
    whole, _, part = text.partition("点")
    digits = "".join(str(DIGITS[char]) for char in part)
    if not any(char in UNITS for char in whole):
        return "".join(str(DIGITS[char]) for char in whole) + (f".{digits}" if part else "")
    total = section = digit = 0
    for char in whole:
        if char in DIGITS:
            digit = DIGITS[char]
        elif UNITS[char] < 10**4:
            section += (digit or 1) * UNITS[char]
            digit = 0
        else:
            total = (total + section + digit) * UNITS[char]
            section = digit = 0
    return str(total + section + digit) + (f".{digits}" if part else "")


def _signs(found: re.Match[str]) -> list[str]:
    if found["percent"]:
        return [_number(found["parts"]), "%"]
    if found["exponent"]:
        return ["^", _number(found["exponent"])]
    if number := found["number"] or found["han"]:
        return [_number(number)]
    return WORDS[found["word"]].split() if found["word"] else list(found["sign"] or "")


def _number(text: str) -> str:
    if text[0] in DIGITS or text[0] in UNITS:
        return han_number(text)
    return f"{Decimal(text.replace(',', '')):f}"


def _meant(sign: str, after: str) -> str:
    """Return what a sign is before the next one: 7 % 3 is a remainder, as in programs."""
    return "mod" if sign == "%" and (after == "(" or after[:1].isdecimal()) else sign


def _usual(char: str) -> str:
    """Return the usual form of a full-width character; ² stays what it is."""
    return char if char in WORDS else unicodedata.normalize("NFKC", char)
