"""Plugins: what they declare, how they are loaded, called, kept up and changed while the hub runs.

Only this package runs plugin code and starts processes.
"""

from apexbridge_trio.plugins.inline import PluginHome
from apexbridge_trio.plugins.permissions import RemindersOf, Reminding
from apexbridge_trio.plugins.roster import entry_of, roster
from apexbridge_trio.plugins.shelf import Plugins
from apexbridge_trio.plugins.tool import CallbackAddress, CallContext, Later, Pending, Tool
from apexbridge_trio.plugins.watch import watch
from apexbridge_trio.plugins.zone import machine_zone

__all__ = [
    "CallContext",
    "CallbackAddress",
    "Later",
    "Pending",
    "PluginHome",
    "Plugins",
    "RemindersOf",
    "Reminding",
    "Tool",
    "entry_of",
    "machine_zone",
    "roster",
    "watch",
]
