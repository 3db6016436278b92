"""Tasks as a terminal shows them: a table of all, and all of one."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from apexbridge_trio.cli.options import json_text
from apexbridge_trio.cli.tables import print_facts, print_table, table_of
from apexbridge_trio.cli.words import local_time, printable, since

HEADS = ("TASK", "TOOL", "STATE", "NODE", "TRIES", "AGE", "ERROR")


def draw(tasks: Sequence[Mapping[str, Any]]) -> Table:
    """Draw the table of ``GET /v1/tasks``."""
    return table_of(HEADS, map(_row, tasks))


def _row(task: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        task["taskId"],
        task["toolName"],
        task["state"],
        task["nodeId"] or "",
        str(task["attempts"]),
        since(task["createdAt"]),
        error_words(task),
    )


def error_words(task: Mapping[str, Any]) -> str:
    """Say why a task has no result; empty if that is no failure."""
    error = task["error"]
    return f"{error['message']} ({error['code']})" if error else ""


def print_task(task: Mapping[str, Any]) -> None:
    """Print what ``GET /v1/tasks/{id}`` says."""
    print_facts(
        {
            "task": task["taskId"],
            "tool": task["toolName"],
            "capability": task["capability"] or "",
            "state": task["state"],
            "error": error_words(task),
            "node": task["nodeId"] or "",
            "attempts": str(task["attempts"]),
            "priority": str(task["priority"]),
            "idempotent": "yes" if task["idempotent"] else "no",
            "request": task["requestId"] or "",
            "part of": task["parentId"] or "",
            "tenant": task["tenantId"],
            "deadline": local_time(task["deadlineAt"]),
            "late results": str(task["lateResults"] or ""),
        }
    )
    print()
    print_table(("TIME", "STATE", "NODE", "ATTEMPT", "NOTE"), map(_step, task["history"]))
    for name in ("toolArgs", "metadata", "result"):
        if task[name] not in ({}, None):
            print(f"\n{_TITLES[name]}\n{printable(json_text(task[name]))}")


_TITLES = {"toolArgs": "arguments", "metadata": "metadata", "result": "result"}


def _step(entry: Mapping[str, Any]) -> tuple[str, ...]:
    node, attempt = entry.get("nodeId", ""), entry.get("attempt", "")
    return local_time(entry["at"]), entry["state"], node, str(attempt), entry.get("note", "")
