"""An event as triggers see it: whether one waits for it, and what a text says of it."""

from datetime import UTC, datetime
from typing import Any, Final, Self

import msgspec
from msgspec import Struct

from apexbridge_trio.config import PLACEHOLDER, Trigger
from apexbridge_trio.identity import Principal
from apexbridge_trio.protocol.happened import ENDS, FIELDS, SUBJECTS, Field, flat, nested
from apexbridge_trio.protocol.openai import encode
from apexbridge_trio.triggers.depth import depth_of, principal_of

# Of one value: the text of a chat may be long, and it is kept, and sent, for each trigger that fires.
MOST_CHARS: Final = 2000


class Happening(Struct, frozen=True):
    """One event.

    Attributes:
        data: The event's, without what is too large.
        fields: The same, with what is inside its objects as ``object.field``.
    """

    kind: str
    tenant_id: str
    family_id: str | None
    depth: int
    at_ms: int
    data: dict[str, Any]
    fields: dict[str, Any]

    @classmethod
    def of(cls, kind: str, owner: Principal, data: Any, at_ms: int) -> Self:
        """Read an event, as its frame would be read."""
        read: dict[str, Any] = msgspec.json.decode(encode(data))
        kept = {name: one for name, value in read.items() if (one := _within(value)) is not None}
        fields = flat(kept)
        return cls(kind, owner.tenant_id, owner.family_id, depth_of(owner), at_ms, kept, fields)

    @classmethod
    def made_up(cls, trigger: Trigger, at_ms: int) -> Self:
        """Return an event that a trigger waits for."""
        data = {name: _example(name, field) for name, field in FIELDS[trigger.on].items()}
        data |= {name: one[0] if isinstance(one, list) else one for name, one in trigger.when.items()}
        return cls.of(trigger.on, principal_of(trigger, 0), nested(data), at_ms)

    def is_for(self, trigger: Trigger) -> bool:
        """Tell whether it is of the trigger's tenant, and of its family if it has one."""
        is_family = trigger.family in {"", self.family_id}
        return trigger.tenant == self.tenant_id and is_family

    def fits(self, trigger: Trigger) -> bool:
        """Tell whether it is as the trigger's conditions say."""
        return all(
            self.fields.get(name) in (wanted if isinstance(wanted, list) else [wanted])
            for name, wanted in trigger.when.items()
        )

    @property
    def subject(self) -> str:
        """What it tells the state of."""
        return str(self.fields.get(SUBJECTS.get(self.kind, ""), ""))

    @property
    def is_end(self) -> bool:
        """Whether nothing more happens with what it is about."""
        field, ends = ENDS.get(self.kind, ("", frozenset()))
        return self.fields.get(field) in ends

    @property
    def at(self) -> str:
        """When it happened, ISO 8601."""
        return datetime.fromtimestamp(self.at_ms / 1000, UTC).isoformat(timespec="milliseconds")

    def fill(self, text: str) -> str:
        """Put the event's values in the place of ``{field}``; of one it has not, nothing."""
        return PLACEHOLDER.sub(lambda found: _said(self._value(found[1])), text)

    def fill_all(self, value: Any) -> Any:
        """Do the same with every text in a value; one that is only ``{field}`` becomes the value itself."""
        if isinstance(value, str):
            alone = PLACEHOLDER.fullmatch(value)
            return self._value(alone[1]) if alone else self.fill(value)
        if isinstance(value, list):
            return [self.fill_all(one) for one in value]
        if isinstance(value, dict):
            return {name: self.fill_all(one) for name, one in value.items()}
        return value

    def _value(self, name: str) -> Any:
        common = {"event": self.kind, "tenant": self.tenant_id, "at": self.at}
        return self.fields[name] if name in self.fields else common.get(name)


def _within(value: Any) -> Any:
    """Return a value if it is small, the beginning of a long text; else None."""
    if isinstance(value, str):
        return value[:MOST_CHARS]
    is_small = not isinstance(value, dict | list) or len(encode(value)) <= MOST_CHARS
    return value if is_small else None


def _said(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else encode(value).decode()


def _example(name: str, field: Field) -> Any:
    made_up: dict[str, Any] = {"number": 1, "flag": True, "text": f"a {name}"}
    return field[0] if isinstance(field, tuple) else made_up[field]
