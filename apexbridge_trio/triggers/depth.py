"""In whose name a trigger acts; and how deep in a chain of triggers something is, which the name says.

Everything that comes of an action (a notice, a task, a reminder, a failed call) bears the principal it was
done for, on disk too. So the depth goes wherever an effect goes, over restarts, and nobody has to carry it.
"""

import re
from typing import Final

from apexbridge_trio.config import Trigger
from apexbridge_trio.identity import Principal

# The effect of an effect of an effect fires nothing any more.
MOST_DEPTH: Final = 3

_ID: Final = re.compile(r"trigger:(\d+):.+")


def depth_of(owner: Principal) -> int:
    """Return how many triggers led to what is done for somebody; 0: none."""
    # The id of a key is of another form, so that none can claim to be one of these.
    found = _ID.fullmatch(owner.id)
    return int(found[1]) if found else 0


def principal_of(trigger: Trigger, depth: int) -> Principal:
    """Return in whose name a trigger acts: what a chat of its tenant may do."""
    return Principal(f"trigger:{depth}:{trigger.name}", trigger.tenant, trigger.family or None, _SCOPES)


_SCOPES: Final = frozenset({"chat"})
