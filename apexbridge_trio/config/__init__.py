"""``config.toml``: found, read, checked, and frozen into one snapshot."""

from apexbridge_trio.config.checks import parse_bind
from apexbridge_trio.config.load import load, public
from apexbridge_trio.config.places import config_path, shipped, state_directory
from apexbridge_trio.config.schema import (
    EMBEDDED,
    Auth,
    Callbacks,
    Chat,
    Config,
    Limits,
    Log,
    Mcp,
    Model,
    Nodes,
    Plugins,
    Results,
    Server,
    ToolChoice,
    Upstream,
)
from apexbridge_trio.config.secret import Secret

__all__ = [
    "EMBEDDED",
    "Auth",
    "Callbacks",
    "Chat",
    "Config",
    "Limits",
    "Log",
    "Mcp",
    "Model",
    "Nodes",
    "Plugins",
    "Results",
    "Secret",
    "Server",
    "ToolChoice",
    "Upstream",
    "config_path",
    "load",
    "parse_bind",
    "public",
    "shipped",
    "state_directory",
]
