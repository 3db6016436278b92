"""What each key may take of the hub, by the numbers of the configuration as they are now.

Numbers are looked at when something is asked for, so a change counts at once, and what was used stays
used. Nothing is held by a task or a timer: a slot is left with the `with` block it was taken in.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Final, Literal, NamedTuple, Self

from apexbridge_trio.config import KeyLimits, Limits
from apexbridge_trio.errors import HubFull, QuotaUsed, TooMany
from apexbridge_trio.limits.meters import Meters
from apexbridge_trio.limits.rate import Allowance, Rate, Standing
from apexbridge_trio.limits.strikes import Strikes

Kind = Literal["chat", "callback", "control"]
Slot = Literal["chats", "streams", "channels"]

_NONE: Final = KeyLimits()
# When as many are in flight as may be, one of them ends soon.
_SOON_S: Final = 1.0


class Asker(NamedTuple):
    """Who asks.

    Attributes:
        id: The key's; or, without one, the network of the address.
        has_key: Which of the two.
    """

    id: str
    has_key: bool = True


class Held:
    """What is held while something runs; a context manager, and leaving it, or `release`, gives it back."""

    __slots__ = ("_release",)

    def __init__(self, release: Callable[[], None] | None = None) -> None:
        self._release = release

    def release(self) -> None:
        """Give it back; once is enough."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def taken_over(self) -> "Held":
        """Return it for another block to hold; this one holds nothing any more."""
        release, self._release = self._release, None
        return Held(release)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Limiter:
    """All meters of the hub.

    Attributes:
        limits: The numbers, as they are now.
        strikes: Wrong keys.
        tokens: What was used of each key's day.
        spent: Told of each key whose tokens were counted just now, and where.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.spent: Callable[[str, Allowance], None] = lambda _key_id, _allowance: None
        self.strikes = Strikes(limits.wrong_keys_per_minute)
        self._rates: dict[Kind, Meters[Rate]] = {
            "chat": Meters(lambda: Rate(1)),
            "callback": Meters(lambda: Rate(1)),
            "control": Meters(lambda: Rate(1)),
        }
        self.tokens = Meters(Allowance)
        # Of what is in flight, and nothing else: no larger than that.
        self._held: Counter[tuple[Slot, str]] = Counter()

    def replace(self, limits: Limits) -> None:
        """Go by other numbers from now on; what was used stays used."""
        self.limits = limits
        self.strikes.per_minute = limits.wrong_keys_per_minute

    def held(self, what: Slot) -> int:
        """Return how many slots of a kind are held, by all keys."""
        return sum(number for (kind, _), number in self._held.items() if kind == what)

    def take(self, asker: Asker, kind: Kind, now: float) -> Standing | None:
        """Take one request of a kind; returns how that leaves the asker, or None: there is no limit."""
        per_minute = self._per_minute(asker, kind)
        if not per_minute:
            return None
        rate = self._rates[kind].of(asker.id)
        rate.retune(per_minute, now)
        return rate.ask(now)

    def hold_chat(self, key_id: str, *, is_stream: bool, now: float) -> Held:
        """Take the place of one chat, before it begins.

        Raises:
            QuotaUsed: The key's tokens of today are used up.
            TooMany: It has as many chats, or streams, in flight as it may have.
        """
        if wait_s := self.tokens_wait_s(key_id, now):
            raise QuotaUsed("This key has used up its tokens of today.", retry_after_s=wait_s)
        own = self._own(key_id)
        most_chats = _first(own.concurrent_chats, self.limits.concurrent_chats)
        most_streams = _first(own.concurrent_streams, self.limits.concurrent_streams)
        chats: tuple[Slot, str] = ("chats", key_id)
        streams: tuple[Slot, str] = ("streams", key_id)
        if most_chats and self._held[chats] >= most_chats:
            raise _in_flight(most_chats, "chats")
        if is_stream and most_streams and self._held[streams] >= most_streams:
            raise _in_flight(most_streams, "streams")
        return self._hold(chats, *((streams,) if is_stream else ()))

    def hold_channel(self, key_id: str) -> Held:
        """Take the place of one WebSocket.

        Raises:
            HubFull: The key has as many as it may have.
        """
        most = _first(self._own(key_id).channels, self.limits.channels_per_key)
        slot: tuple[Slot, str] = ("channels", key_id)
        if most and self._held[slot] >= most:
            message = f"This key has {most} channels open already, which is as many as it may have."
            raise HubFull(message, retry_after_s=_SOON_S)
        return self._hold(slot)

    def counts_tokens(self, key_id: str) -> bool:
        """Tell whether the key's tokens are counted."""
        return bool(_first(self._own(key_id).tokens_per_day, self.limits.tokens_per_day))

    def tokens_wait_s(self, key_id: str, now: float) -> float:
        """Return the seconds until the key has tokens; 0: it has some, or they are not counted."""
        return self._allowance(key_id).wait_s(now) if self.counts_tokens(key_id) else 0.0

    def spender(self, key_id: str) -> Callable[[int, float], None] | None:
        """Return what counts the cost of an answer of this key; None: it is not counted."""
        return partial(self.use_tokens, key_id) if self.counts_tokens(key_id) else None

    def use_tokens(self, key_id: str, tokens: int, now: float) -> None:
        """Count what an answer has cost."""
        if self.counts_tokens(key_id):
            allowance = self._allowance(key_id)
            allowance.use(tokens, now)
            self.spent(key_id, allowance)

    def _hold(self, *slots: tuple[Slot, str]) -> Held:
        self._held.update(slots)

        def release() -> None:
            self._held.subtract(slots)
            for slot in slots:
                if not self._held[slot]:
                    del self._held[slot]

        return Held(release)

    def _allowance(self, key_id: str) -> Allowance:
        allowance = self.tokens.of(key_id)
        allowance.per_day = _first(self._own(key_id).tokens_per_day, self.limits.tokens_per_day)
        return allowance

    def _per_minute(self, asker: Asker, kind: Kind) -> int:
        limits = self.limits
        if not asker.has_key:
            return limits.keyless_per_minute
        own = self._own(asker.id)
        if kind == "chat":
            return _first(own.chats_per_minute, limits.chats_per_minute)
        if kind == "callback":
            return _first(own.callbacks_per_minute, limits.callbacks_per_minute)
        return _first(own.control_per_minute, limits.control_per_minute)

    def _own(self, key_id: str) -> KeyLimits:
        return self.limits.keys.get(key_id, _NONE)


def _first(own: int | None, common: int) -> int:
    """Return a key's own number, 0 among them, or else everybody's."""
    return common if own is None else own


def _in_flight(most: int, what: str) -> TooMany:
    message = f"This key has {most} {what} in flight, which is as many as it may have; wait until one ends."
    return TooMany(message, code="too_many_in_flight", retry_after_s=_SOON_S)
