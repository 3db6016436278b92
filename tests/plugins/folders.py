"""Plugin folders for tests."""

from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

from apexbridge_trio.flights import Flight, Flights
from apexbridge_trio.identity import Principal
from apexbridge_trio.plugins import CallContext, PluginHome, Plugins, Tool
from apexbridge_trio.plugins.inline import load_module
from apexbridge_trio.plugins.manifest import read_manifest

SHIPPED = Path(__file__).parents[2] / "plugins"
SHANGHAI = ZoneInfo("Asia/Shanghai")
SUNDAY = datetime(2026, 11, 22, 8, 0, tzinfo=SHANGHAI)

ECHO = """
name = "echo"
description = "Says it again."
runtime = "inline"
entry = "echo.py"
"""
ECHO_CODE = "async def echo(arguments, home):\n    return arguments\n"


def write_plugin(
    directory: Path, *, manifest: str = ECHO, code: str = ECHO_CODE, folder: str = "echo"
) -> Path:
    """Write one plugin folder and return it."""
    place = directory / folder
    place.mkdir(parents=True)
    (place / "plugin.toml").write_text(manifest, "utf-8")
    (place / "echo.py").write_text(code, "utf-8")
    return place


def load(*directories: Path, state: Path, now: datetime = SUNDAY) -> Plugins:
    """Load plugins on a clock that stands."""
    return Plugins.load(directories, state=state, clock=lambda: now)


async def call_tool(tool: Tool, arguments: dict[str, Any]) -> Any:
    """Call a tool as the Toolbox does, in a flight of its own."""
    owner = Principal("key_test", scopes=frozenset({"chat"}))
    with Flights().open("req_test", tool.kind, owner) as flight:
        return await tool.call(arguments, CallContext(flight))


def shipped_module(name: str) -> ModuleType:
    """Import a shipped plugin's entry as the hub does."""
    folder = SHIPPED / name
    return load_module(folder, read_manifest(folder / "plugin.toml"))


def home(state: Path, now: datetime = SUNDAY) -> PluginHome:
    """Return what a plugin function gets as its second argument."""
    return PluginHome(state, lambda: now)


def flight_of(tool: Tool) -> Flight:
    """Return a flight for a call of a tool."""
    return Flights().open("req_test", tool.kind, Principal("key_test", scopes=frozenset({"chat"})))
