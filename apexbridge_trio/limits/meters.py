"""Meters by name, no more than so many: the one that was not asked for the longest is forgotten."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

M = TypeVar("M")

# 420 bytes each (`tests/limits/test_meters.py` measures it), so 4 MB of a kind when a whole botnet
# asks. Who was not seen for the longest is hurt, in their own favour: they begin anew. So whoever has more
# networks than this has as many tries again; a key is 256 bits, and they gain nothing.
MOST_METERS: Final = 10_000


class Meters(Generic[M]):
    """Meters by name.

    Args:
        make: Makes one.
        most: How many are kept.
    """

    def __init__(self, make: Callable[[], M], most: int = MOST_METERS) -> None:
        self._make = make
        self._most = most
        self._meters: OrderedDict[str, M] = OrderedDict()

    def __len__(self) -> int:
        return len(self._meters)

    def get(self, name: str) -> M | None:
        """Return a meter that is there."""
        return self._meters.get(name)

    def of(self, name: str) -> M:
        """Return a meter; it is made if it is not there."""
        found = self._meters.get(name)
        if found is None:
            if len(self._meters) >= self._most:
                self._meters.popitem(last=False)
            found = self._meters[name] = self._make()
        else:
            self._meters.move_to_end(name)
        return found
