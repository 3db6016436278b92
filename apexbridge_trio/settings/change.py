"""A change of the config: where it comes from, what it would be, and what came of it."""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct, field

from apexbridge_trio.config import Config, ConfigWrong, Source, When, editable
from apexbridge_trio.errors import ConfigInvalid, ConfigRefused
from apexbridge_trio.redaction import redact

Kind = Literal["api", "rollback", "signal", "edit", "start"]

# So many faults are told of one change; who made more mends these first.
_MOST_TOLD: Final = 50


class Origin(Struct, frozen=True):
    """Who brings a change, and how.

    Attributes:
        principal_id: Whose key it was; empty: whoever may write the file.
        address: From where; empty: from this machine.
        tenant_id: Whose key it was; None: nobody's, as are the next two.
        request_id: What it came with.
    """

    kind: Kind
    principal_id: str = ""
    address: str = ""
    tenant_id: str | None = None
    family_id: str | None = None
    request_id: str | None = None


class Plan(Struct, frozen=True):
    """A config that was checked, and is not in force yet.

    Attributes:
        source: What was read.
        text: What is to be in the file.
    """

    source: Source
    config: Config
    text: str


class Change(Struct, frozen=True):
    """What came of a change.

    Attributes:
        revision: The one that is in force now.
        applied: By key that changed, when that counts; empty: nothing did.
        made_file: The file was made by it, in the state directory.
        recorded: Its revision is in the history; False if the disk refused that.
    """

    revision: str
    origin: Origin
    applied: Mapping[str, When] = field(default_factory=dict)
    made_file: bool = False
    recorded: bool = True


def diff_of(before: Config, after: Config, keys: Mapping[str, When]) -> list[dict[str, Any]]:
    """Return what each key was and is, without secrets; where only those changed, both look the same."""
    old, new = editable(before), editable(after)
    found = [{"key": key, "from": _value(old, key), "to": _value(new, key)} for key in keys]
    text = redact(msgspec.json.encode(found).decode())
    shown: list[dict[str, Any]] = msgspec.json.decode(text)
    return shown


def refusal(fault: ConfigInvalid, base: str) -> ConfigRefused:
    """Return what a peer is told of a config with faults: each with its path, and no folder of the machine.

    Args:
        fault: As the config's room tells it.
        base: The folder of the file.
    """
    if not isinstance(fault, ConfigWrong):
        said = _told(fault.message, base)
        return ConfigRefused(said, faults=[("", 0, said)])
    faults = [(wrong.path, wrong.line, _told(wrong.reason, base)) for wrong in fault.wrongs[:_MOST_TOLD]]
    said = _told("; ".join(fault.message.splitlines()[:_MOST_TOLD]), base)
    return ConfigRefused(f"The config stays as it is: {said}", faults=faults, param=faults[0][0] or None)


def _told(said: str, base: str) -> str:
    return redact(said.replace(f"{base}/", ""))


def _value(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values
