"""What somebody wants to be reminded of: read, checked, and turned into a row; time is an argument."""

from datetime import datetime
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta, Raw, Struct, field

from apexbridge_trio.errors import BadRequest
from apexbridge_trio.identity import Principal
from apexbridge_trio.ids import new_id
from apexbridge_trio.protocol.openai import Id, encode, read_json
from apexbridge_trio.schedule import Cron, instant_of, read_zone
from apexbridge_trio.store import ReminderRecord
from apexbridge_trio.store.reminders import Kind, Missed

# Two clocks differ a little, and a request takes its time: so long ago still means now.
PAST_S: Final = 60.0
YEAR_S: Final = 366 * 86_400.0
# Further ahead a year was mistyped; tomorrow's rules of the clocks are not known for so long anyway.
AHEAD_S: Final = 50 * YEAR_S
MOST_ARGS_BYTES: Final = 16 * 1024

Text = Annotated[str, Meta(min_length=1, max_length=1000)]
Prompt = Annotated[str, Meta(min_length=1, max_length=8000)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]


class Notify(Struct):
    """How a notice looks."""

    title: Annotated[str, Meta(max_length=200)] | None = None


class Action(Struct, forbid_unknown_fields=True):
    """What a reminder does: one of the three; of a kind that is not known nothing is made, not a notice."""

    notify: bool | Notify | None = None
    chat: Prompt | None = None
    tool: Name | None = None
    args: dict[str, Raw] | None = None


class Wanted(Struct, kw_only=True):
    """The body of ``POST /v1/reminders``; one of `at`, `in_s` and `cron` says when."""

    text: Text
    at: Annotated[str, Meta(max_length=64)] | None = None
    in_s: Annotated[float, Meta(gt=0, le=AHEAD_S)] | None = field(default=None, name="in")
    cron: Annotated[str, Meta(max_length=200)] | None = None
    timezone: Annotated[str, Meta(max_length=200)] | None = None
    missed: Missed = "run_once"
    action: Action = field(default_factory=Action)
    tenant_id: Id | None = field(default=None, name="tenantId")
    family_id: Id | None = field(default=None, name="familyId")


_decode: Final = msgspec.json.Decoder(Wanted).decode


def read_wanted(body: bytes) -> Wanted:
    """Read what is wanted.

    Raises:
        BadRequest: It is not of that form.
    """
    return read_json(body, _decode)


def record_of(wanted: Wanted, owner: Principal, now: float, home: ZoneInfo) -> ReminderRecord:
    """Turn what is wanted into the row of a reminder.

    Args:
        wanted: As it was read.
        owner: Whose it is.
        now: Seconds since the epoch.
        home: The zone of what names none.

    Raises:
        BadRequest: It is of the past, never, or can not be understood; the message says which.
    """
    if not wanted.text.strip():
        raise BadRequest("Say what the reminder is about.", param="text")
    zone = read_zone(wanted.timezone) if wanted.timezone else home
    kind, action = _action(wanted.action)
    due = _due(wanted, now, zone)
    return ReminderRecord(
        id=new_id("rem"),
        principal_id=owner.id,
        tenant_id=owner.tenant_id,
        family_id=owner.family_id,
        text=wanted.text.strip(),
        at_ms=int(due * 1000) if wanted.at else None,
        cron=wanted.cron,
        timezone=wanted.timezone or "",
        missed=wanted.missed,
        kind=kind,
        action=action,
        created_ms=int(now * 1000),
        next_ms=int(due * 1000),
    )


def _due(wanted: Wanted, now: float, zone: ZoneInfo) -> float:
    ways = [name for name, value in (("at", wanted.at), ("in", wanted.in_s), ("cron", wanted.cron)) if value]
    if len(ways) != 1:
        said = f"not {' and '.join(ways)} together" if ways else "none is there"
        raise BadRequest(f"Say when with one of at, in and cron; {said}.", param=ways[-1] if ways else "at")
    if wanted.in_s is not None:
        return now + wanted.in_s
    return _of_cron(wanted.cron, now, zone) if wanted.cron else _of_at(wanted.at or "", now, zone)


def _of_cron(line: str, now: float, zone: ZoneInfo) -> float:
    try:
        due = Cron.read(line).next_after(now, zone)
    except BadRequest as fault:
        raise BadRequest(f"cron: {fault.message}", param="cron") from None
    assert due is not None  # a line that was read falls due
    return due


def _of_at(text: str, now: float, zone: ZoneInfo) -> float:
    due = _instant(text, zone, now - PAST_S)
    if due < now - PAST_S:
        raise BadRequest(f"{text} is past; it is now {_shown(now, zone)}.", param="at", code="in_the_past")
    if due > now + AHEAD_S:
        raise BadRequest(f"{text} is more than fifty years ahead.", param="at")
    return due


def _instant(text: str, zone: ZoneInfo, now: float) -> float:
    try:
        at = datetime.fromisoformat(text)
        if len(text) <= len("2026-11-25"):
            raise BadRequest(f"{text!r} says no time of day, as 2026-11-25T08:00 does.", param="at")
        return instant_of(at, zone, now) if at.tzinfo is None else at.timestamp()
    except (ValueError, OverflowError):
        raise BadRequest(
            f"{text!r} is no time in ISO 8601, such as 2026-11-25T08:00 or 2026-11-25T07:00:00Z.", param="at"
        ) from None


def _shown(now: float, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(now, zone).isoformat(timespec="seconds")


def _action(action: Action) -> tuple[Kind, str]:
    named: list[tuple[Kind, Any]] = [
        ("notify", action.notify),
        ("chat", action.chat),
        ("tool", action.tool),
    ]
    kinds = [kind for kind, value in named if value is not None and value is not False]
    if len(kinds) > 1:
        raise BadRequest(f"A reminder does one thing, not {' and '.join(kinds)}.", param="action")
    if action.args is not None and action.tool is None:
        raise BadRequest("args are those of a tool, and none is named.", param="action.args")
    return (kinds or ["notify"])[0], _parts(action)


def _parts(action: Action) -> str:
    """Return what the action takes, as JSON."""
    if action.chat is not None:
        return encode({"prompt": action.chat}).decode()
    if action.tool is not None:
        args = encode(action.args or {})
        if len(args) > MOST_ARGS_BYTES:
            raise BadRequest(f"The arguments are over {MOST_ARGS_BYTES} bytes.", param="action.args")
        return encode({"tool": action.tool, "args": Raw(args)}).decode()
    title = action.notify.title if isinstance(action.notify, Notify) else None
    return encode({"title": title} if title else {}).decode()
