"""``config.toml``: found, read, checked, and frozen into one snapshot."""

from apexbridge_trio.config.applied import APPLIED, When, changed_keys
from apexbridge_trio.config.checks import parse_bind
from apexbridge_trio.config.file import ConfigFile, Source
from apexbridge_trio.config.load import ConfigWrong, editable, load, public
from apexbridge_trio.config.needs import find_needs, why_not_bound
from apexbridge_trio.config.places import config_path, shipped, state_directory, state_place
from apexbridge_trio.config.schema import (
    EMBEDDED,
    Auth,
    Callbacks,
    Chat,
    Config,
    KeyLimits,
    Limits,
    Log,
    Mcp,
    Model,
    Nodes,
    Plugins,
    Results,
    Server,
    ToolChoice,
    Tracing,
    Trigger,
    Upstream,
)
from apexbridge_trio.config.secret import Secret, find_secret_file, is_readable_by_others
from apexbridge_trio.config.secret import secret_from_file as read_secret
from apexbridge_trio.config.triggers import PLACEHOLDER

__all__ = [
    "APPLIED",
    "EMBEDDED",
    "PLACEHOLDER",
    "Auth",
    "Callbacks",
    "Chat",
    "Config",
    "ConfigFile",
    "ConfigWrong",
    "KeyLimits",
    "Limits",
    "Log",
    "Mcp",
    "Model",
    "Nodes",
    "Plugins",
    "Results",
    "Secret",
    "Server",
    "Source",
    "ToolChoice",
    "Tracing",
    "Trigger",
    "Upstream",
    "When",
    "changed_keys",
    "config_path",
    "editable",
    "find_needs",
    "find_secret_file",
    "is_readable_by_others",
    "load",
    "parse_bind",
    "public",
    "read_secret",
    "shipped",
    "state_directory",
    "state_place",
    "why_not_bound",
]
