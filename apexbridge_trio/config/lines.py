"""Where each key of a TOML text stands, since no reader of TOML says so."""

import re

Place = tuple[str | int, ...]

_TABLE = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]")
_KEY = re.compile(r"\s*([\w.\"'-]+(?:\s*\.\s*[\w.\"'-]+)*)\s*=")
_LONG_STRING = re.compile(r'("""|\'\'\').*?\1', re.DOTALL)


class Lines:
    """The lines of a text that is TOML; of one that is not, whatever looks like it.

    The text is scanned, not parsed: a wrong line number is all that can come of it.
    """

    def __init__(self, text: str) -> None:
        self._lines: dict[Place, int] = {}
        self._last: dict[Place, int] = {}
        table: Place = ()
        # A line inside a long string may look like a key.
        text = _LONG_STRING.sub(lambda found: "\n" * found[0].count("\n"), text)
        for number, line in enumerate(text.split("\n"), 1):
            if heading := _TABLE.match(line):
                table = self._table(_parts(heading[2]), is_array=heading[1] == "[[")
                self._lines.setdefault(table, number)
            elif key := _KEY.match(line):
                self._lines.setdefault((*table, *_parts(key[1])), number)

    def of(self, place: Place) -> int:
        """Return the line of a key, from 1, or of the nearest table around it; 0 if there is none."""
        around = (place[:end] for end in range(len(place), 0, -1))
        return next((self._lines[one] for one in around if one in self._lines), 0)

    def _table(self, parts: list[str], *, is_array: bool) -> Place:
        """Return the place of a heading; a name of an array of tables means its last one so far."""
        place: Place = ()
        for number, part in enumerate(parts, 1):
            place = (*place, part)
            if is_array and number == len(parts):
                self._last[place] = self._last.get(place, -1) + 1
            if place in self._last:
                place = (*place, self._last[place])
        return place


def written(place: Place) -> str:
    """Return a place as people write it: ``models[1].upstream``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return "".join(parts).removeprefix(".")


def _parts(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]
