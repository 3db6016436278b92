"""A clock on the wall that goes with Trio's."""

import trio


class Wall:
    """Seconds since the epoch; it stands still until somebody looks for the first time."""

    def __init__(self, start: float = 1_780_000_000.0) -> None:
        self.start = start
        self._zero: float | None = None

    def __call__(self) -> float:
        if self._zero is None:
            self._zero = trio.current_time()
        return self.start + trio.current_time() - self._zero
