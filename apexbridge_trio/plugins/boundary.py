"""Where a plugin's faults end: whatever it raises or says becomes one `ToolFailed`, and no more of it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.redaction import redact

# The model reads the message; a fault with a whole document in it would fill its context.
MAX_MESSAGE: Final = 500
_PATH: Final = re.compile(r"(?<![\w:/.])/[^\s'\":,;)]+/[^\s'\":,;)]*")


# What a plugin may raise: its code is not asked whether the hub shall end, so not even `sys.exit` does.
_THEIRS: Final = (Exception, SystemExit)


@contextmanager
def boundary() -> Iterator[None]:
    """Turn whatever a plugin raises into a `ToolFailed` that names the fault, and no more.

    Cancellation: goes on, alone; nobody waits any more for a fault that was raised beside it.

    Raises:
        ToolFailed: Type and message of the fault, without trace and paths.
    """
    try:
        yield
    except ToolFailed:
        raise
    except _THEIRS as fault:  # the trust boundary of a plugin
        raise ToolFailed(told(fault)) from fault
    except BaseExceptionGroup as faults:
        _, others = faults.split(_THEIRS)
        if others is not None:
            raise others from None
        raise ToolFailed(told(faults)) from faults


def shown(text: str) -> str:
    """Return what may be shown of a plugin's words: bounded, without secrets and paths of the machine."""
    return _PATH.sub("…", redact(text))[:MAX_MESSAGE]


def told(fault: BaseException) -> str:
    """Return type and message of a fault, without trace and paths; of a group, the first one's."""
    more = 0
    while isinstance(fault, BaseExceptionGroup):
        more += len(fault.exceptions) - 1
        fault = fault.exceptions[0]
    others = f" (and {more} more)" if more else ""
    if isinstance(fault, ToolFailed):
        return fault.message + others
    said = fault.strerror if isinstance(fault, OSError) else str(fault)
    return shown(f"{type(fault).__name__}: {said}" if said else type(fault).__name__) + others
