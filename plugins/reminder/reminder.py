"""Reminders of who asks: set, list and remove them in people's words.

They are the hub's own; a plugin that asks for it is handed those of its caller, and no others.
"""

from typing import Any, Final

from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.plugins import PluginHome, Reminding

from .when import when_of

# A model reads the list; more than this is no answer to a question.
MAX_LISTED: Final = 50


async def reminder_set(arguments: dict[str, Any], home: PluginHome) -> dict[str, Any]:
    """Set a reminder; it is on the disk when this returns."""
    when = when_of(arguments, home.now())
    return {"set": _told(await _of(home).add(str(arguments["text"]).strip(), **when))}


async def reminder_list(_arguments: dict[str, Any], home: PluginHome) -> dict[str, Any]:
    """List what is still to come."""
    found = _of(home).waiting()
    return {"count": len(found), "reminders": [_told(one) for one in found[:MAX_LISTED]]}


async def reminder_remove(arguments: dict[str, Any], home: PluginHome) -> dict[str, Any]:
    """Remove the one that fits; with none or several nothing is changed and they are told."""
    reminders = _of(home)
    fitting = _fitting(reminders.waiting(), arguments)
    if len(fitting) != 1 or not await reminders.remove(fitting[0]["id"]):
        return {"removed": None, "candidates": [_told(one) for one in fitting[:MAX_LISTED]]}
    return {"removed": _told(fitting[0]), "candidates": []}


def _of(home: PluginHome) -> Reminding:
    if home.reminders is None:
        raise ToolFailed("There are no reminders here: only a hub that runs keeps them.")
    return home.reminders


def _fitting(waiting: list[dict[str, Any]], arguments: dict[str, Any]) -> list[dict[str, Any]]:
    if "id" in arguments:
        return [one for one in waiting if one["id"] == arguments["id"]]
    text = str(arguments.get("text", "")).casefold().strip()
    if not text:
        raise ToolFailed("Say which reminder: its id, or what it is about / 请说明是哪一个提醒")
    same = [one for one in waiting if one["text"].casefold() == text]
    return same or [one for one in waiting if text in one["text"].casefold()]


def _told(one: dict[str, Any]) -> dict[str, Any]:
    return {key: one[key] for key in ("id", "text", "next", "cron", "timezone")}
