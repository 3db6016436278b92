"""Stop asking a provider that is dead, and notice when it is back. Sans-IO: `now` is an argument.

    state      is admitted   after a success   after a failure
    closed     each          closed            open, at the last of `failures` in a row
    open       none          closed            open
    half-open  one, a probe  closed            open

An open circuit is half-open when its pause is over. Admitting the probe opens it again at once, for
twice the pause: so a probe that never reports (its request was cancelled) is one that failed, and
nobody has to give it back. Apart from that a provider may ask to be left alone for a while.
"""

from typing import Final, Literal

State = Literal["closed", "open", "half-open"]

# A provider may name any time; a longer one is taken for this. Over the usual limits per minute,
# and short enough that one wrong header does not lose a provider for the day.
MAX_BLOCK_S: Final = 300.0


class Rests:
    """Which models a provider wants to be left alone with, and until when.

    Providers count requests by model, so one that is over its limit says nothing of the others, and a
    fallback to another one of the same provider is worth its while.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def begin(self, model: str, now: float, wait_s: float) -> None:
        """Note that a model is to be left alone so long; a shorter wish does not undo a longer one."""
        self._until = {name: until for name, until in self._until.items() if until > now}
        self._until[model] = max(self._until.get(model, now), now + min(wait_s, MAX_BLOCK_S))

    def wait_s(self, model: str, now: float) -> float:
        """Return how long to wait before asking a model; 0 if now is right."""
        return max(0.0, self._until.get(model, now) - now)


class Circuit:
    """Whether it is worth asking one provider.

    Args:
        failures: In a row, until it opens.
        pause_s: Before the first probe; doubled by each probe.
        max_pause_s: What the doubling ends at.
    """

    def __init__(self, *, failures: int = 5, pause_s: float = 1.0, max_pause_s: float = 30.0) -> None:
        self._failures = failures
        self._first_pause_s = pause_s
        self._max_pause_s = max_pause_s
        self._pause_s = pause_s
        self._in_row = 0
        self._probe_at = 0.0
        self._blocked_until = 0.0

    def state(self, now: float) -> State:
        """Say where it stands, whatever the provider asked for."""
        if self._in_row < self._failures:
            return "closed"
        return "open" if now < self._probe_at else "half-open"

    def wait_s(self, now: float) -> float:
        """Return how long to wait before asking; 0 if now is right."""
        open_until = self._probe_at if self.state(now) == "open" else now
        return max(open_until, self._blocked_until, now) - now

    def admit(self, now: float) -> bool:
        """Decide whether to ask now. The one who is admitted asks; a probe is admitted once."""
        if self.wait_s(now) > 0:
            return False
        if self.state(now) == "half-open":
            self._pause_s = min(2 * self._pause_s, self._max_pause_s)
            self._probe_at = now + self._pause_s
        return True

    def succeeded(self) -> None:
        """Note an answer, be it a refusal: the provider lives."""
        self._in_row = 0
        self._pause_s = self._first_pause_s

    def failed(self, now: float) -> None:
        """Note that it could not be reached, broke or fell silent."""
        self._in_row += 1
        if self._in_row == self._failures:
            self._probe_at = now + self._pause_s

    def blocked(self, now: float, wait_s: float) -> None:
        """Note that it asked to be left alone so long; a shorter wish does not undo a longer one."""
        self._blocked_until = max(self._blocked_until, now + min(wait_s, MAX_BLOCK_S))
