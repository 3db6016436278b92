"""Reminders of who asks: set, list, change and remove them in people's words.

They are the hub's own; a plugin that asks for it is handed those of its caller, and no others.
"""

import re
from typing import Any, Final

from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.plugins import PluginHome, Reminding

from .change import changed
from .leftover import be_whole
from .when import when_of

# A model reads the list; more than this is no answer to a question.
MAX_LISTED: Final = 50
# Where a word begins and ends, in writing that has spaces; Chinese has none.
_EDGE: Final = r"(?<![a-z0-9](?=[a-z0-9]))"
_END: Final = r"(?!(?<=[a-z0-9])[a-z0-9])"


async def reminder_set(arguments: dict[str, Any], home: PluginHome) -> dict[str, Any]:
    """Set a reminder; it is on the disk when this returns.

    Raises:
        Unclear: When is not said, or not all of it was understood.
    """
    text = str(arguments["text"]).strip()
    be_whole(text, arguments)
    when = when_of(arguments, home.now())
    return {"set": _told(await _of(home).add(text, **when))}


async def reminder_list(_arguments: dict[str, Any], home: PluginHome) -> dict[str, Any]:
    """List what is still to come."""
    found = _of(home).waiting()
    return {"count": len(found), "reminders": [_told(one) for one in found[:MAX_LISTED]]}


async def reminder_remove(arguments: dict[str, Any], home: PluginHome) -> dict[str, Any]:
    """Remove the one that fits; with none or several nothing is changed and they are told.

    With ``all`` each one that fits is removed, and ``count`` says how many.
    """
    reminders = _of(home)
    fitting = _fitting(reminders.waiting(), arguments)
    if arguments.get("all"):
        gone = [one for one in fitting if await reminders.remove(one["id"])]
        return {"count": len(gone), "all": [_told(one) for one in gone[:MAX_LISTED]]}
    if len(fitting) != 1 or not await reminders.remove(fitting[0]["id"]):
        return {"removed": None, "candidates": [_told(one) for one in fitting[:MAX_LISTED]]}
    return {"removed": _told(fitting[0]), "candidates": []}


async def reminder_change(arguments: dict[str, Any], home: PluginHome) -> dict[str, Any]:
    """Have the one that fits come at another time; with none or several nothing is changed and they are told.

    The one with the new time is on the disk before the other is removed: a crash between leaves both.

    Raises:
        ToolFailed: It does more than tell.
        Unclear: When is not said, or is not a time that it can have.
    """
    reminders = _of(home)
    fitting = _fitting(reminders.waiting(), arguments)
    if len(fitting) != 1:
        return {"changed": None, "candidates": [_told(one) for one in fitting[:MAX_LISTED]]}
    [old] = fitting
    if old["action"] != {"notify": {}}:
        raise ToolFailed(
            "That reminder does more than tell; who has set it can change it. / 这个提醒不能这样改。"
        )
    when = changed(old, arguments, home.now())
    new = await reminders.add(old["text"], missed=old["missed"], **when)
    await reminders.remove(old["id"])
    return {"changed": _told(new), "was": _told(old)}


def _of(home: PluginHome) -> Reminding:
    if home.reminders is None:
        raise ToolFailed("There are no reminders here: only a hub that runs keeps them.")
    return home.reminders


def _fitting(waiting: list[dict[str, Any]], arguments: dict[str, Any]) -> list[dict[str, Any]]:
    if "id" in arguments:
        return [one for one in waiting if one["id"] == arguments["id"]]
    text = str(arguments.get("text", "")).casefold().strip()
    if not text:
        return waiting
    # Whole words before beginnings: the reminder of tea is not that of the steak, nor the teacher's.
    for fits in (rf"^{re.escape(text)}$", rf"{_EDGE}{re.escape(text)}{_END}", _EDGE + re.escape(text)):
        if found := [one for one in waiting if re.search(fits, one["text"].casefold())]:
            return found
    return []


def _told(one: dict[str, Any]) -> dict[str, Any]:
    return {key: one[key] for key in ("id", "text", "next", "cron", "timezone")}
