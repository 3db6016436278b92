"""The rooms of the hub put together: who is handed what, and who hears of what.

Nothing runs here yet; `daemon` starts the rooms and ends them.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import trio

from apexbridge_trio import config as config_file
from apexbridge_trio import results
from apexbridge_trio.actions import Actions
from apexbridge_trio.audit import Audit
from apexbridge_trio.background import Backgrounds
from apexbridge_trio.config import Config, shipped
from apexbridge_trio.events import Events
from apexbridge_trio.flights import Flights
from apexbridge_trio.hub import Hub
from apexbridge_trio.identity import Keys, Principal
from apexbridge_trio.intents import IntentModel
from apexbridge_trio.journal import Journal
from apexbridge_trio.keyring import Keyring
from apexbridge_trio.ledger import Ledger, Sender, owner_of
from apexbridge_trio.limits import Limiter
from apexbridge_trio.llm import ask_model
from apexbridge_trio.log import get_logger
from apexbridge_trio.logs import Logs
from apexbridge_trio.measures import Measures
from apexbridge_trio.models import ModelTable
from apexbridge_trio.nodes import Node, Nodes, NodeTask, task_entry
from apexbridge_trio.notices import Notices
from apexbridge_trio.openings import Openings
from apexbridge_trio.pending import Pendings
from apexbridge_trio.plugins import Plugins, RemindersOf, machine_zone
from apexbridge_trio.protocol.callback import read_callback
from apexbridge_trio.protocol.channel import ForwardedCallback
from apexbridge_trio.redaction import redact
from apexbridge_trio.reminders import PluginReminders, Reminders
from apexbridge_trio.results import Results
from apexbridge_trio.store import NodeTaskRecord, PluginRows, Store
from apexbridge_trio.switches import Switches
from apexbridge_trio.triggers import Triggers, depth_of
from apexbridge_trio.upstream import Upstream
from apexbridge_trio.web.guards import CALLBACKS, LOCAL

DAY_S: Final = 86_400.0
# Whose those events are that nobody has asked for.
HUB: Final = Principal("hub")
# Of the start, at most, for looking through the store: about 30 MB on an SSD.
CHECK_S: Final = 0.3

log = get_logger("composition")


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
        was_used = (state / results.FOLDER).is_dir()
        store = stack.enter_context(Store(state, check_s=CHECK_S, was_used=was_used))
        logs = stack.enter_context(Logs.opened())
        # A connection of its own, as its thread writes while the loop reads.
        written = stack.enter_context(Store(state))
        journal = Journal(written)
        flights = Flights()
        flights.watchers.append(measures := Measures())
        reminders = Reminders(flights, journal, read=store, written=written, home=home_zone(config), now=now)
        disabled = PluginRows(store).disabled()
        plugins = load_plugins(config, state, partial(PluginReminders, reminders), disabled)
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
        _tell_faults(events, notices, pendings, plugins)
        triggers = Triggers(
            config.triggers,
            flights,
            journal,
            read=store,
            written=written,
            events=events,
            notices=notices,
            now=now,
        )
        switches = Switches(plugins, flights, journal, PluginRows(written))
        limiter = Limiter(config.limits)
        keys, openings, audit = Keys(store, now=now), Openings(), Audit(store, written, journal, now=now)
        keyring = Keyring(keys, flights, openings, audit, journal, read=store, written=written, now=now)
        hub = Hub(
            config=config,
            audit=audit,
            events=events,
            logs=logs,
            flights=flights,
            journal=journal,
            backgrounds=Backgrounds(flights, config.chat.result_ttl_s),
            models=models,
            plugins=plugins,
            pendings=pendings,
            nodes=nodes,
            notices=notices,
            reminders=reminders,
            triggers=triggers,
            keys=keys,
            limiter=limiter,
            keyring=keyring,
            openings=openings,
            embedded=embedded,
            started=trio.current_time(),
            state=state,
            measures=measures,
            switches=switches,
        )
        reminders.actions = triggers.firings.actions = Actions(
            models, config.chat, hub.toolbox, partial(_may_act, keys), limiter, events
        )
        yield hub


def _may_act(keys: Keys, owner: Principal) -> bool:
    """Tell whether somebody who once set something may still have it done."""
    return owner.id == LOCAL.id or depth_of(owner) > 0 or keys.is_good(owner.id)


def home_zone(config: Config) -> ZoneInfo:
    """Return the zone of "today" and "at eight"."""
    return ZoneInfo(config.plugins.timezone) if config.plugins.timezone else machine_zone()


def load_plugins(
    config: Config, state: Path, reminders: RemindersOf | None = None, disabled: Iterable[str] = ()
) -> Plugins:
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
        disabled=disabled,
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


def _tell_faults(events: Events, notices: Notices, pendings: Pendings, plugins: Plugins) -> None:
    """Have the faults of plugins told that no chat hears of."""

    def owed(call_id: str) -> None:
        notices.owed(call_id)
        record = pendings.of_call(call_id)
        if record is not None and record.state in {"failed", "timed_out"}:
            said = {"plugin": record.plugin, "tool": record.tool, "what": "task", "code": record.state}
            said |= {"message": f"{record.tool}: {record.state}", "taskId": record.task_id or call_id}
            events.publish("plugin.failed", owner_of(record), said)

    def down(name: str, reason: str) -> None:
        # Nobody has asked for it: it is the household's that the hub belongs to.
        said = {"plugin": name, "what": "down", "code": "plugin_down", "message": redact(reason)}
        events.publish("plugin.failed", HUB, said)

    pendings.owed = owed
    plugins.on_failed(down)


def callback_url(config: Config, address: str) -> str:
    """Return where plugins call back: below the public address, or the one that is listened at."""
    # What listens everywhere is reached from this machine on the loopback.
    reached = address.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")  # noqa: S104  # not bound here
    return f"{config.server.public_url.rstrip('/') or f'http://{reached}'}{CALLBACKS}"
