"""Wrong keys, counted against the address they come from.

=========  ==================================================================  ====================
address    what is done with a key that comes from there                       until
=========  ==================================================================  ====================
at rest    it is looked up; a wrong one counts                                 too many were wrong
slowed     one that was right before: looked up                                a minute without
           any other: looked up at the rate, not in between                    wrong ones
           the one that was wrong last: not looked up
=========  ==================================================================  ====================

A household has one address for all its devices, and one of them may have an old key and ask every second.
So an address is never closed: who has a right key is served, also while it is slowed. What a guesser would
learn by that they can not reach: a key is 256 random bits. What is kept from them is the hub's time, and
what is kept from the log is the flood. Looking for a key that was right before is one lookup by its
SHA-256, whatever the key, so how long it takes tells nothing.
"""

from hashlib import sha256

from apexbridge_trio.limits.meters import MOST_METERS, Meters
from apexbridge_trio.limits.rate import Rate


class _Strike:
    __slots__ = ("is_slowed", "last", "rate")

    def __init__(self) -> None:
        self.rate = Rate(1)
        self.last = b""
        self.is_slowed = False


class Strikes:
    """The wrong keys of a while, by address, and the right ones.

    Attributes:
        per_minute: So many wrong keys of an address are looked up in a minute; 0: all.
    """

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._strikes = Meters(_Strike)
        # The hashes of keys that were right. One that is pushed out was not used for long, and is as
        # a new one: while its address is slowed it takes its turn.
        self._right: dict[bytes, None] = {}

    def __len__(self) -> int:
        return len(self._strikes)

    def wait_s(self, network: str, key: str, now: float) -> float:
        """Return the seconds until a key from there is looked up; 0: now."""
        strike = self._strike(network, now)
        if strike is None or not strike.is_slowed:
            return 0.0
        digest = _digest(key)
        if digest in self._right:
            return 0.0
        wait = strike.rate.wait_s(now)
        return max(wait, 60.0 / self.per_minute) if digest == strike.last else wait

    def quiet_s(self, network: str, now: float) -> float:
        """Return the seconds until what can only be proven by reading all of it is read; 0: now."""
        strike = self._strike(network, now)
        return strike.rate.wait_s(now) if strike is not None else 0.0

    def _strike(self, network: str, now: float) -> _Strike | None:
        strike = self._strikes.get(network)
        if strike is None or not self.per_minute:
            return None
        strike.rate.retune(self.per_minute, now)
        if strike.rate.remaining(now) == self.per_minute:
            strike.is_slowed = False
        return strike

    def wrong(self, network: str, now: float, key: str = "") -> None:
        """Count a key, or a signature, that was wrong."""
        if self.per_minute:
            strike = self._strikes.of(network)
            strike.rate.retune(self.per_minute, now)
            strike.rate.take(now)
            strike.last = _digest(key)
            self._right.pop(strike.last, None)  # it was revoked, or has expired
            strike.is_slowed = strike.is_slowed or strike.rate.remaining(now) == 0

    def right(self, key: str) -> None:
        """Remember a key that was right."""
        self._right[_digest(key)] = None
        if len(self._right) > MOST_METERS:
            del self._right[next(iter(self._right))]


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogatepass")).digest()
