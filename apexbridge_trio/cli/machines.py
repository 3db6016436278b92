"""Nodes as a terminal shows them: a table of all, and all of one."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from apexbridge_trio.cli.tables import print_facts, print_table, table_of
from apexbridge_trio.cli.words import duration, local_time, since

HEADS = ("NODE", "NAME", "TYPE", "STATUS", "TASKS", "LOAD", "TOOLS", "HEARD", "LEFT")


def draw(nodes: Sequence[Mapping[str, Any]]) -> Table:
    """Draw the table of ``GET /v1/nodes``."""
    return table_of(HEADS, map(_row, nodes))


def _row(node: Mapping[str, Any]) -> tuple[str, ...]:
    left = node["lastDisconnect"]
    return (
        node["id"],
        node["name"],
        node["type"],
        node["status"],
        f"{node['stats']['activeTasks']}/{node['maxConcurrent']}",
        _percent(node["load"]),
        str(len(node["tools"])),
        _ago(node["lastHeartbeatAt"]),
        left["reason"] if left and node["status"] == "offline" else "",
    )


def print_node(node: Mapping[str, Any]) -> None:
    """Print what ``GET /v1/nodes/{id}`` says."""
    print_facts(
        {
            "node": node["id"],
            "name": node["name"],
            "type": node["type"],
            "version": node["version"] or "",
            "status": node["status"],
            "tenant": node["tenantId"],
            "family": node["familyId"] or "",
            "capabilities": ", ".join(node["capabilities"]),
            "load": _percent(node["load"]),
            "resources": json.dumps(node["resources"], ensure_ascii=False) if node["resources"] else "",
            **_work(node),
            **_times(node),
        }
    )
    if node["tools"]:
        print()
        print_table(("TOOL", "DESCRIPTION"), [(tool["name"], _about(tool)) for tool in node["tools"]])


def _work(node: Mapping[str, Any]) -> dict[str, str]:
    stats = node["stats"]
    average = stats["averageResponseTimeMs"]
    told = f"{stats['totalTasks']} given, {stats['completedTasks']} succeeded, {stats['failedTasks']} failed"
    return {
        "tasks": f"{stats['activeTasks']} of {node['maxConcurrent']} at a time",
        "so far": told + ("" if average is None else f", {duration(average)} on average"),
    }


def _times(node: Mapping[str, Any]) -> dict[str, str]:
    left, latency = node["lastDisconnect"], node["latencyMs"]
    return {
        "heard": _ago(node["lastHeartbeatAt"]),
        "latency": "" if latency is None else duration(latency),
        "connected": _when(node["connectedAt"]),
        "last left": f"{_when(left['at'])}: {left['reason']}" if left else "",
        "first seen": _when(node["firstSeenAt"]),
    }


def _about(tool: Mapping[str, Any]) -> str:
    return str(tool.get("description") or "")


def _percent(load: float | None) -> str:
    return "" if load is None else f"{load:.0%}"


def _ago(ms: int | None) -> str:
    return "" if ms is None else f"{since(ms)} ago"


def _when(ms: int | None) -> str:
    return "" if ms is None else local_time(ms)
