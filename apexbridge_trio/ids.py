"""Ids: the ones the hub makes are ordered by time, the ones peers choose are checked."""

import re
from typing import Final

from uuid_utils import uuid7

# Contract: nothing else reaches a path or a log.
SANE: Final = re.compile(r"[A-Za-z0-9._:-]{1,200}")


def new_id(kind: str) -> str:
    """Return a fresh id such as ``req_0199…``; ids of one kind sort by the time they were made."""
    return f"{kind}_{uuid7().hex}"


def is_sane(text: str) -> bool:
    """Tell whether a peer may use `text` as an id."""
    return SANE.fullmatch(text) is not None
