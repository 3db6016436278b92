"""The whole hub: composed, started in order, drained and stopped.

::

    services                     ours; a crash of one is total, systemd restarts
    ├─ signals                   SIGTERM and SIGINT drain, a second one hurries
    ├─ backgrounds               chats nobody waits for
    ├─ pendings                  writes what must be on disk, and sweeps tasks that answer later
    ├─ nodes                     tasks of nodes that stand for themselves
    ├─ plugins                   processes that go on after a pending answer, and what stays up
    ├─ plugin folders            notices that one was changed
    ├─ local providers           looks for Ollama and llama.cpp, if nothing is configured
    ├─ reminders                 looks at the clock on the wall; what they begin is below it
    └─ serving                   started last; its end is the end

Draining: new chats are refused with 503, those in flight may finish for `server.drain_timeout_s`
seconds, the rest is interrupted, and only then the server stops, so that each client has its end.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
import trio

from apexbridge_trio import __version__
from apexbridge_trio import config as config_file
from apexbridge_trio.background import Backgrounds
from apexbridge_trio.config import Config, shipped
from apexbridge_trio.errors import ApexError
from apexbridge_trio.events import Events
from apexbridge_trio.flights import Flights
from apexbridge_trio.hub import Hub
from apexbridge_trio.identity import Keys, Principal
from apexbridge_trio.intents import IntentModel
from apexbridge_trio.journal import Journal
from apexbridge_trio.ledger import Ledger, Sender
from apexbridge_trio.llm import ask_model
from apexbridge_trio.log import get_logger
from apexbridge_trio.models import ModelTable
from apexbridge_trio.nodes import Node, Nodes, NodeTask, task_entry
from apexbridge_trio.notices import Notices
from apexbridge_trio.notify import notify
from apexbridge_trio.pending import Pendings
from apexbridge_trio.plugins import Plugins, RemindersOf, machine_zone, watch
from apexbridge_trio.protocol.callback import read_callback
from apexbridge_trio.protocol.channel import ForwardedCallback
from apexbridge_trio.reminders import Actions, PluginReminders, Reminders
from apexbridge_trio.results import Results
from apexbridge_trio.serving import ServingLimits, serve
from apexbridge_trio.store import NodeTaskRecord, Store
from apexbridge_trio.upstream import Upstream, find_local
from apexbridge_trio.web.front import Front
from apexbridge_trio.web.guards import CALLBACKS, LOCAL

# What is interrupted at the end of a drain gets this long to say so to its client.
LAST_WORDS_S: Final = 5.0

# A provider on this machine is looked for this often while none is configured, seconds.
LOOK_EVERY_S: Final = 60.0

DAY_S: Final = 86_400.0

log = get_logger("daemon")


@contextmanager
def open_hub(
    config: Config,
    state: Path,
    *,
    make_upstream: Callable[[config_file.Upstream], Upstream] = Upstream,
    now: Callable[[], float] = time.time,
) -> Iterator[Hub]:
    """Compose the rooms; what they hold open is closed on leaving, synchronously."""
    with ExitStack() as stack:
        store = stack.enter_context(Store(state))
        # A connection of its own, as its thread writes while the loop reads.
        written = stack.enter_context(Store(state))
        journal = Journal(written)
        flights = Flights()
        reminders = Reminders(flights, journal, read=store, written=written, home=home_zone(config), now=now)
        plugins = load_plugins(config, state, partial(PluginReminders, reminders))
        for fault in plugins.faults:
            log.warning("plugin left out", reason=fault)
        for name, note in plugins.notes.items():
            log.warning("plugin is limited", plugin=name, reason=note)
        upstreams = {entry.name: make_upstream(entry) for entry in config.upstreams}
        embedded = IntentModel(plugins)
        models = ModelTable(config.models, upstreams, embedded)
        stack.callback(models.close)
        pendings = _pendings(config, state, store, written, journal)
        nodes = _nodes(config, flights, journal, store, written, pendings, models)
        notices = Notices(store, written, journal, events := Events())
        _tell(events, notices, pendings, nodes, reminders)
        keys = Keys(store)
        hub = Hub(
            config=config,
            events=events,
            flights=flights,
            backgrounds=Backgrounds(flights, config.chat.result_ttl_s),
            models=models,
            plugins=plugins,
            pendings=pendings,
            nodes=nodes,
            notices=notices,
            reminders=reminders,
            keys=keys,
            embedded=embedded,
            started=trio.current_time(),
        )
        reminders.actions = Actions(models, config.chat, hub.toolbox, may_act=partial(_may_act, keys))
        yield hub


def _may_act(keys: Keys, owner: Principal) -> bool:
    """Tell whether somebody who once set something may still have it done."""
    return owner.id == LOCAL.id or keys.is_good(owner.id)


def home_zone(config: Config) -> ZoneInfo:
    """Return the zone of "today" and "at eight"."""
    return ZoneInfo(config.plugins.timezone) if config.plugins.timezone else machine_zone()


def load_plugins(config: Config, state: Path, reminders: RemindersOf | None = None) -> Plugins:
    """Load the plugins that come with the hub, and those of the config's directories; blocks."""
    zone = home_zone(config)
    return Plugins.load(
        [shipped("plugins"), *map(Path, config.plugins.directories)],
        state=state,
        clock=lambda: datetime.now(zone),
        strict=config.plugins.strict,
        kill_grace_s=config.plugins.kill_grace_s,
        mcp=config.plugins.mcp,
        reminders=reminders,
    )


def _pendings(config: Config, state: Path, store: Store, written: Store, journal: Journal) -> Pendings:
    return Pendings(
        store,
        journal,
        Ledger(written, Results(state)),
        url=callback_url(config, config.server.bind),
        expires_s=config.callbacks.expires_s,
        keep_s=config.results.keep_days * DAY_S,
    )


def _nodes(
    config: Config,
    flights: Flights,
    journal: Journal,
    store: Store,
    written: Store,
    pendings: Pendings,
    models: ModelTable,
) -> Nodes:
    nodes = Nodes(
        config.nodes,
        flights,
        journal,
        read=store,
        written=written,
        keep_s=config.results.keep_days * DAY_S,
        callback_url=lambda: pendings.url,
    )
    nodes.llm.ask_model = partial(ask_model, models, pendings, config.chat.default_model)

    async def forward(principal: Principal, callback: ForwardedCallback) -> str:
        taken, sender = read_callback(callback.body), Sender(principal=principal)
        return (await pendings.accept(callback.plugin, callback.task_id, taken, sender)).word

    nodes.forward = forward
    return nodes


def _tell(events: Events, notices: Notices, pendings: Pendings, nodes: Nodes, reminders: Reminders) -> None:
    """Have what happens in the rooms told to whom it concerns."""
    pendings.owed = nodes.book.owed = notices.owed
    pendings.progressed = notices.heard_progress

    def progressed(task: NodeTask, progress: float | None, message: str) -> None:
        notices.progress(task.owner, task.id, progress, message)

    def node_changed(node: Node, was: str, status: str, reason: str) -> None:
        said = {"nodeId": node.id, "from": was, "to": status, "reason": reason}
        events.publish("node.status", node.owner, said)

    def task_changed(record: NodeTaskRecord) -> None:
        owner = Principal(record.principal_id, record.tenant_id, record.family_id)
        events.publish("task.status", owner, task_entry(record))

    def reminded(owner: Principal, _kind: str, said: dict[str, Any]) -> None:
        if said["action"] != "notify":  # one that only tells is told as the notice that it owes
            events.publish("reminder", owner, said)

    reminders.publish = reminded
    reminders.notified = lambda notice: notices.owed(notice.id)
    nodes.reports.progressed = progressed
    nodes.changed = node_changed
    nodes.book.changed = task_changed


async def run_hub(config: Config, state: Path, bind: str) -> None:
    """Serve until a signal has drained the hub.

    "Started" is said on stdout (``listening on …``) and to systemd, once the listener is bound.
    """
    with open_hub(config, state) as hub:
        drained = trio.Event()
        async with trio.open_nursery() as services:
            await services.start(_drain_on_signal, hub, drained, name="signals")
            await services.start(hub.backgrounds.run, name="backgrounds")
            await services.start(hub.pendings.run, name="pendings")
            await services.start(hub.nodes.run, name="nodes")
            await services.start(hub.plugins.run, name="plugins")
            await services.start(hub.reminders.run, name="reminders")
            await _warm(hub)
            services.start_soon(watch, hub.plugins, partial(_warm, hub), name="plugin folders")
            if config.chat.find_local and not config.upstreams:
                services.start_soon(_look_for_local, hub, name="local providers")
            await _serve(hub, bind, drained)
            hub.nodes.close()
            services.cancel_scope.cancel(reason="the server has stopped")


def callback_url(config: Config, address: str) -> str:
    """Return where plugins call back: below the public address, or the one that is listened at."""
    # What listens everywhere is reached from this machine on the loopback.
    reached = address.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")  # noqa: S104  # not bound here
    return f"{config.server.public_url.rstrip('/') or f'http://{reached}'}{CALLBACKS}"


async def _serve(hub: Hub, bind: str, drained: trio.Event) -> None:
    """Accept until drained, and say where."""
    limits = ServingLimits(**msgspec.structs.asdict(hub.config.limits), grace_s=LAST_WORDS_S)
    accept = partial(
        serve, Front(hub), binds=[bind], limits=limits, shutdown=drained.wait, on_fault=_log_fault
    )
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(accept, name="serving")
        host, port = addresses[0]
        shown = f"[{host}]" if ":" in host else host
        hub.pendings.url = callback_url(hub.config, f"{shown}:{port}")
        hub.plugins.port = port
        print(f"listening on http://{shown}:{port}", flush=True)  # noqa: T201  # scripts read this line
        log.info("ready", version=__version__, address=f"{shown}:{port}")
        notify("READY=1")


def _log_fault(where: str, fault: BaseException) -> None:
    log.error("a fault was kept inside its connection", where=where, exc_info=fault)


async def _drain_on_signal(
    hub: Hub, drained: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Drain at the first signal, hurry at the second."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        await anext(signals)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drain, hub, drained, nursery.cancel_scope, name="drain")
            await anext(signals)
            log.warning("hurried: what is in flight is interrupted now")
            hub.flights.interrupt_all("the hub was told to hurry")
    hub.events.close()
    drained.set()


async def _drain(hub: Hub, drained: trio.Event, waiting: trio.CancelScope) -> None:
    """Let what is in flight finish, then interrupt the rest."""
    notify("STOPPING=1")
    hub.flights.is_draining = True
    hub.nodes.drain()
    timeout_s = hub.config.server.drain_timeout_s
    log.info("draining", in_flight=len(hub.flights), timeout_s=timeout_s)
    with trio.move_on_after(timeout_s):
        await hub.flights.empty()
    stops = hub.flights.interrupt_all("the hub is about to end")
    with trio.move_on_after(LAST_WORDS_S):
        await hub.flights.empty()
    for stop in stops:
        log.info("interrupted by the drain", **stop.written())
    # Only now: whoever watches a chat hears its end.
    hub.events.close()
    drained.set()
    waiting.cancel(reason="drained")


async def _warm(hub: Hub) -> None:
    """Read the plugins' sentences before somebody asks: the first answer is as fast as the next."""
    for fault in await trio.to_thread.run_sync(hub.embedded.warm):
        log.warning("sentence left out", reason=fault)


async def _look_for_local(hub: Hub) -> None:
    """Offer the models of a provider on its usual local port, once one is there."""
    while True:
        for entry in await find_local(known=hub.models.upstreams):
            log.info("found a local provider; its models are offered", name=entry.name, url=entry.base_url)
            hub.models.add_upstream(Upstream(entry))
        await trio.sleep(LOOK_EVERY_S)


def run(config: Config, *, config_path: Path | None, state: Path, bind: str | None) -> int:
    """Run the hub until it has been drained; returns the exit code."""
    log.info("starting", version=__version__, config=str(config_path or "defaults"), state=str(state))
    try:
        trio.run(run_hub, config, state, bind or config.server.bind)
    except* (ApexError, OSError) as faults:
        for fault in faults.exceptions:
            log.error("the hub can not run", reason=str(fault))
    else:
        return 0
    return 1
