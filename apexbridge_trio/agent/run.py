"""The command ``apexbridge node``: an agent composed, its signals, its end."""

import faulthandler
import signal
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Final

import trio
from msgspec import Struct, field

from apexbridge_trio import __version__, config
from apexbridge_trio.agent.address import HubAddress
from apexbridge_trio.agent.agent import Agent, Door
from apexbridge_trio.agent.home import open_home
from apexbridge_trio.agent.kept import Kept
from apexbridge_trio.agent.registration import Profile
from apexbridge_trio.config import Secret, read_secret, shipped
from apexbridge_trio.errors import ApexError, ConfigInvalid, faults_in
from apexbridge_trio.log import get_logger
from apexbridge_trio.notify import notify
from apexbridge_trio.plugins import Plugins, machine_zone
from apexbridge_trio.protocol.frames import NodeType
from apexbridge_trio.watchdog import watchdog

# As the hub's server.drain_timeout_s.
DRAIN_S: Final = 20.0

log = get_logger("agent")


class Options(Struct, frozen=True, kw_only=True):
    """What the command line says.

    Args:
        key_file: Holds the key and nothing else; read anew for each connection.
        plugins: Directories of plugin folders; none: those that come with this program.
        state: The state directory.
        node_id: None: the one that is kept in the state directory.
    """

    hub: HubAddress
    key_file: Path
    name: str
    state: Path
    plugins: tuple[Path, ...] = ()
    node_id: str | None = None
    type: NodeType = "worker"
    max_concurrent: int = 4
    capabilities: tuple[str, ...] = field(default=())


def run(options: Options) -> int:
    """Be a node until a signal ends it; returns the exit code.

    Raises:
        ConfigInvalid: Something that the command line names can not be used.
    """
    read_secret(options.key_file)
    with ExitStack() as stack:
        home = stack.enter_context(open_home(options.state, options.name, options.node_id))
        plugins = _load_plugins(options, home.folder)
        profile = Profile(
            node_id=home.node_id,
            name=options.name,
            type=options.type,
            capabilities=options.capabilities,
            max_concurrent=options.max_concurrent,
        )
        # A loop that the watchdog found blocked is ended by SIGABRT: this writes down where it stood.
        faulthandler.enable()
        log.info("starting", version=__version__, hub=str(options.hub), node=home.node_id, name=options.name)
        try:
            trio.run(_run, options, profile, plugins, home.folder)
        except* (ApexError, OSError) as faults:
            for fault in faults_in(faults):
                log.error("the node can not run", reason=str(fault))
        else:
            return 0
    return 1


async def _run(options: Options, profile: Profile, plugins: Plugins, home: Path) -> None:
    def read_key() -> Secret:
        return read_secret(options.key_file)

    agent = Agent(Door(options.hub, read_key), profile, plugins, Kept(home), notifies=True)
    async with trio.open_nursery() as around:
        await around.start(watchdog, name="watchdog")
        async with trio.open_nursery() as nursery:
            await nursery.start(_drain_on_signal, agent, name="signals")
            await nursery.start(agent.run, name="agent")
            # Once started, connected or not: a node waits for its hub, and its service is up meanwhile.
            notify("READY=1")
            log.info("ready", tools=len(plugins.tools))
        around.cancel_scope.cancel(reason="the node has ended")


async def _drain_on_signal(
    agent: Agent, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Drain at the first signal, hurry at the second."""
    hurry = trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        await anext(signals)
        notify("STOPPING=1")
        log.info("draining", running=agent.tasks.running, timeout_s=DRAIN_S)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drain, agent, hurry, nursery.cancel_scope, name="drain")
            await anext(signals)
            log.warning("hurried: what runs is interrupted now")
            hurry.set()


async def _drain(agent: Agent, hurry: trio.Event, waiting: trio.CancelScope) -> None:
    await agent.drain(DRAIN_S, hurry)
    waiting.cancel(reason="drained")


def _load_plugins(options: Options, home: Path) -> Plugins:
    """Load the plugins; their state is the node's, not a hub's on the same machine."""
    for directory in options.plugins:
        if not directory.is_dir():
            raise ConfigInvalid(f"--plugins: {directory} is no directory")
    zone = machine_zone()
    plugins = Plugins.load(
        options.plugins or (shipped("plugins"),),
        state=home,
        clock=lambda: datetime.now(zone),
        kill_grace_s=config.Plugins().kill_grace_s,
    )
    for fault in plugins.faults:
        log.warning("plugin left out", reason=fault)
    for name, note in plugins.notes.items():
        log.warning("plugin is limited", plugin=name, reason=note)
    return plugins
