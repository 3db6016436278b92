"""When the next chunk of each paced stream is due."""

import heapq
from collections.abc import Hashable, Iterator
from itertools import count
from typing import Final, Generic, TypeVar

Stream = TypeVar("Stream", bound=Hashable)

# Its multiples spread the beats of many streams evenly over their interval.
_GOLDEN: Final = 0.618033988749895


class Beats(Generic[Stream]):
    """Streams, each with a beat of its own; times are nanoseconds, given by the caller."""

    def __init__(self) -> None:
        self._every_ns: dict[Stream, int] = {}
        self._due: list[tuple[int, int, Stream]] = []  # a heap; the number decides between equal times
        self._numbers = count()
        self._started = 0

    def start(self, stream: Stream, now_ns: int, every_ns: int) -> None:
        """Beat from now on; the first beat is half an interval to one and a half away."""
        self._every_ns[stream] = every_ns
        self._started += 1
        self._push(now_ns + round(every_ns * (0.5 + self._started * _GOLDEN % 1)), stream)

    def stop(self, stream: Stream) -> None:
        """Beat no more, if it ever did."""
        self._every_ns.pop(stream, None)

    def wait_s(self, now_ns: int) -> float | None:
        """Seconds until the next beat; None if there is none."""
        return max(0.0, (self._due[0][0] - now_ns) / 1e9) if self._due else None

    def take(self, now_ns: int) -> Iterator[Stream]:
        """The streams whose beat is due."""
        while self._due and self._due[0][0] <= now_ns:
            due_ns, _, stream = heapq.heappop(self._due)
            if stream in self._every_ns:
                self._push(due_ns + self._every_ns[stream], stream)
                yield stream

    def _push(self, due_ns: int, stream: Stream) -> None:
        heapq.heappush(self._due, (due_ns, next(self._numbers), stream))
