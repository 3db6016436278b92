"""The node's side: an agent that joins a hub, runs its plugins for it, and never gives up on it.

Only this package imports trio_websocket; nothing here knows a room of the hub's own.
"""

from apexbridge_trio.agent.address import HubAddress, parse_hub
from apexbridge_trio.agent.agent import Agent, Door
from apexbridge_trio.agent.home import Home, open_home
from apexbridge_trio.agent.kept import Kept
from apexbridge_trio.agent.registration import Profile
from apexbridge_trio.agent.run import Options, run

__all__ = [
    "Agent",
    "Door",
    "Home",
    "HubAddress",
    "Kept",
    "Options",
    "Profile",
    "open_home",
    "parse_hub",
    "run",
]
