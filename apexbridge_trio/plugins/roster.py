"""The list of plugins, as ``GET /v1/plugins`` shows it: what each is, how it is, what it has done.

===========  ====================================================================
state        meaning
===========  ====================================================================
ready        its tools can be called
unsupported  it can not be run here at all; `note` says why
starting     what it keeps up is not up yet
running      it is up
restarting   it was up, and is begun again soon
failed       it ended too often, and is tried again later
disabled     an administrator has switched it off: none of its tools is offered,
             nothing of it is kept up; `calls.running` may still end
refused      what is in its folder now was not loaded; `lastError` has file, key
             and reason, and what was loaded before is listed beside it
===========  ====================================================================

Health is ``ok``, ``limited`` (this machine can not hold it as its manifest wants; `note` says what),
or ``failing``: the last call of one of its tools has failed, or it is not up.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from apexbridge_trio.plugins import legacy, manifest
from apexbridge_trio.plugins.plugin import Plugin
from apexbridge_trio.plugins.shelf import Plugins
from apexbridge_trio.plugins.supervisor import Keeping
from apexbridge_trio.plugins.tally import Tally

_DOWN: Final = frozenset({"restarting", "failed"})


def roster(plugins: Plugins) -> list[dict[str, Any]]:
    """Return an entry for each plugin that was found, those that were refused last."""
    offer = plugins.offer
    known = [entry_of(plugin, plugins) for plugin in (*offer.plugins.values(), *offer.disabled.values())]
    return known + [_refusal(fault) for fault in plugins.faults]


def entry_of(plugin: Plugin, plugins: Plugins) -> dict[str, Any]:
    """Return what is told of one plugin."""
    said = plugin.manifest
    is_on = plugins.is_on(plugin.name)
    tallies = plugins.tallies_of(plugin)
    keeping = plugins.keeping(plugin) if is_on else None
    return {
        "name": plugin.name,
        "displayName": said.display_name or plugin.name,
        "version": said.version,
        "description": said.description,
        "type": said.type,
        "runtime": said.runtime,
        "network": plugin.network,
        "state": _state(plugin, keeping) if is_on else "disabled",
        "health": _health(tallies, keeping, plugin.note),
        "note": plugin.note,
        "lastError": _last_error(tallies, keeping),
        "restarts": keeping.restarts if keeping else 0,
        "tools": list(plugin.tools),
        "calls": _calls(tallies),
        "callSeconds": round(sum(tally.seconds for tally in tallies), 3),
    }


def _state(plugin: Plugin, keeping: Keeping | None) -> str:
    if plugin.standing is None:
        return "ready" if plugin.is_supported else "unsupported"
    return keeping.state if keeping else "starting"


def _health(tallies: Sequence[Tally], keeping: Keeping | None, note: str) -> str:
    is_down = keeping is not None and keeping.state in _DOWN
    if is_down or any(tally.is_failing for tally in tallies):
        return "failing"
    return "limited" if note else "ok"


def _last_error(tallies: Sequence[Tally], keeping: Keeping | None) -> str:
    said = [keeping.last_error if keeping else "", *(tally.last_error for tally in tallies)]
    return next(filter(None, said), "")


def _calls(tallies: Sequence[Tally]) -> dict[str, int]:
    words = ("started", "running", "succeeded", "failed", "stopped")
    return {word: sum(getattr(tally, word) for tally in tallies) for word in words}


def _refusal(fault: str) -> dict[str, Any]:
    # A peer is told the folder's name, not where it is; what the config declares has none.
    file, _, reason = fault.partition(": ")
    path = Path(file)
    is_file = path.name in {manifest.FILE, legacy.FILE}
    name, said = (path.parent.name, f"{path.name}: {reason}") if is_file else (path.name, reason)
    return {"name": name, "state": "refused", "health": "failing", "lastError": said}
