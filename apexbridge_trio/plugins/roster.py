"""The list of plugins, as ``GET /v1/plugins`` shows it: what each is, how it is, what it has done.

=========  ==========================================================
state      meaning
=========  ==========================================================
ready      its tools can be called
refused    it was not loaded; `lastError` has file, key and reason
=========  ==========================================================

Health is ``ok``, ``limited`` (this machine can not hold it as its manifest wants, `note` says what),
or ``failing`` (the last call of one of its tools has failed).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from apexbridge_trio.plugins.declared import PluginTool
from apexbridge_trio.plugins.manifest import Manifest
from apexbridge_trio.plugins.shelf import Plugins
from apexbridge_trio.plugins.tally import Tally


def roster(plugins: Plugins) -> list[dict[str, Any]]:
    """Return an entry for each plugin that was found, those that were refused last."""
    ready = [_entry(manifest, plugins) for manifest in plugins.manifests.values()]
    return ready + [_refusal(fault) for fault in plugins.faults]


def _entry(manifest: Manifest, plugins: Plugins) -> dict[str, Any]:
    tools = [tool for tool in plugins.tools.values() if tool.plugin == manifest.name]
    tallies = [tool.tally for tool in tools if isinstance(tool, PluginTool)]
    note = plugins.notes.get(manifest.name, "")
    return {
        "name": manifest.name,
        "displayName": manifest.display_name or manifest.name,
        "version": manifest.version,
        "description": manifest.description,
        "type": manifest.type,
        "runtime": manifest.runtime,
        "state": "ready",
        "health": _health(tallies, note),
        "note": note,
        "lastError": next((tally.last_error for tally in tallies if tally.last_error), ""),
        "tools": [tool.name for tool in tools],
        "calls": _calls(tallies),
    }


def _refusal(fault: str) -> dict[str, Any]:
    # Peers are told the folder's name, not where it is.
    file, _, reason = fault.partition(": ")
    path = Path(file)
    said = f"{path.name}: {reason}"
    return {"name": path.parent.name, "state": "refused", "health": "failing", "lastError": said}


def _health(tallies: Iterable[Tally], note: str) -> str:
    if any(tally.is_failing for tally in tallies):
        return "failing"
    return "limited" if note else "ok"


def _calls(tallies: Iterable[Tally]) -> dict[str, int]:
    words = ("started", "running", "succeeded", "failed", "stopped")
    return {word: sum(getattr(tally, word) for tally in tallies) for word in words}
