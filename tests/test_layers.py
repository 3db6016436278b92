"""Imports go strictly downwards, and a few libraries live in one room each."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "apexbridge_trio"

# Lowest first. A module imports only from levels below its own; a package's modules may
# import each other. A module that is not here has no level, and that is a failure.
ORDER = [
    {""},
    {"errors"},
    {"ids", "installation"},
    {"protocol"},
    {"redaction", "notify", "activation", "schedule", "addresses", "plain", "files"},
    {"watchdog"},
    {"log"},
    {"config", "clock"},
    {"store", "histogram"},
    {"identity", "results", "journal", "limits"},
    {"origin", "links", "peer"},
    {"flights", "circuit", "ledger", "events", "audit", "logs", "openings", "backup"},
    {"relay", "plugins", "measures", "keyring", "tracing", "belief", "daybook"},
    {"upstream", "intents", "pending", "nodes", "notices"},
    {"models"},
    {"settings"},
    {"tools"},
    {"chat", "background"},
    {"llm", "push", "stopping", "switches"},
    {"actions"},
    {"reminders", "triggers"},
    {"hub"},
    {"standing", "forgetting"},
    {"clients", "health", "metrics"},
    {"web"},
    {"agent"},
    {"serving"},
    {"news", "reconfiguration"},
    {"composition"},
    {"daemon"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: height for height, names in enumerate(ORDER) for name in names}

# Library -> the rooms that may import it.
ONLY_IN = {
    "quart": {"web"},
    "quart_trio": {"web"},
    "hypercorn": {"serving"},
    "apsw": {"store"},
    "cronsim": {"schedule"},
    "httpx": {"upstream", "cli"},
    "httptools": {"relay", "serving"},
    "hassil": {"intents"},
    "jinja2": {"intents"},
    "structlog": {"log"},
    "typer": {"cli"},
    "rich": {"cli"},
    "jsonschema_rs": {"plugins"},
    "mcp": {"plugins"},
    "watchfiles": {"plugins"},
    "tomlkit": {"config"},
    "trio_websocket": {"agent"},
    "prometheus_client": {"metrics"},
    "opentelemetry": {"tracing"},
}
# Both ends of a wire know nothing of each other: what goes over it is in `protocol`.
APART = {"agent": {"web", "serving", "composition", "daemon", "hub", "store", "chat", "tools", "models"}}
PURE = {"errors", "protocol"}  # standard library and msgspec only
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: say the whole name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_strictly_downwards(path: Path) -> None:
    room = room_of(path)
    assert room in LEVEL, f"{room} has no level"
    for name in imports_of(path):
        top, _, rest = name.partition(".")
        if top == "apexbridge_trio":
            other = rest.partition(".")[0]
            other = other if other in LEVEL else ""
            assert other == room or LEVEL[other] < LEVEL[room], f"{room} imports {other}"
            assert other not in APART.get(room, ()), f"{room} imports {other}"
        elif top in ONLY_IN:
            assert room in ONLY_IN[top], f"{top} is imported in {room}"
        if room in PURE:
            assert top not in {"trio", "quart", "httpx", "structlog", "time", "datetime"}, f"{room}: {top}"


def test_every_level_has_a_room() -> None:
    rooms = {room_of(path) for path in MODULES}
    assert set(LEVEL) <= rooms, "a level without a room"


def test_every_room_is_in_the_table_of_the_design() -> None:
    house = (
        (PACKAGE.parent / "docs/design.md").read_text("utf-8").partition("\n| room |")[2].partition("\n\n")[0]
    )
    told = {
        name.strip("/")
        for row in house.splitlines()[2:]
        for name in re.findall(r"`([^`]+)`", row.split("|")[1])
    }
    assert told == set(LEVEL) - {"", "__main__"}
