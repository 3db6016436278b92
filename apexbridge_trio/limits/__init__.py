"""How much of something may be taken: rates, allowances, what is held at once, and wrong keys.

RULE: nothing here waits, and time is an argument, in seconds.
"""

from apexbridge_trio.limits.address import network_of, peer_of
from apexbridge_trio.limits.limiter import Asker, Held, Kind, Limiter, Slot
from apexbridge_trio.limits.meters import MOST_METERS, Meters
from apexbridge_trio.limits.rate import DAY_S, Allowance, Rate, Standing
from apexbridge_trio.limits.strikes import Strikes

__all__ = [
    "DAY_S",
    "MOST_METERS",
    "Allowance",
    "Asker",
    "Held",
    "Kind",
    "Limiter",
    "Meters",
    "Rate",
    "Slot",
    "Standing",
    "Strikes",
    "network_of",
    "peer_of",
]
