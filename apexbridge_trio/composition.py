"""The rooms of the hub put together: who is handed what.

Nothing runs here yet; `daemon` starts the rooms and ends them.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import trio
from msgspec import Struct

from apexbridge_trio import config as config_file
from apexbridge_trio import results
from apexbridge_trio.actions import Actions
from apexbridge_trio.audit import Actor, Audit
from apexbridge_trio.background import Backgrounds
from apexbridge_trio.belief import doubted_ms, note_belief
from apexbridge_trio.clock import WallClock, since_boot
from apexbridge_trio.config import Config, ConfigFile, Source
from apexbridge_trio.daybook import DayBook
from apexbridge_trio.events import Bounds, Events
from apexbridge_trio.flights import Flights
from apexbridge_trio.hub import Hub
from apexbridge_trio.identity import Keys, Principal
from apexbridge_trio.intents import IntentModel
from apexbridge_trio.journal import Journal
from apexbridge_trio.keyring import Keyring
from apexbridge_trio.ledger import Ledger, Sender
from apexbridge_trio.limits import Limiter
from apexbridge_trio.llm import ask_model
from apexbridge_trio.log import get_logger
from apexbridge_trio.logs import Logs
from apexbridge_trio.measures import Measures
from apexbridge_trio.models import ModelTable
from apexbridge_trio.news import tell, tell_clock, tell_faults
from apexbridge_trio.nodes import Nodes
from apexbridge_trio.notices import Notices
from apexbridge_trio.openings import Openings
from apexbridge_trio.pending import Pendings
from apexbridge_trio.plugins import Plugins, RemindersOf
from apexbridge_trio.protocol.callback import read_callback
from apexbridge_trio.protocol.channel import ForwardedCallback
from apexbridge_trio.reconfiguration import (
    configure,
    home_zone,
    note_change,
    plugin_directories,
    tell_change,
    tell_refusal,
)
from apexbridge_trio.reminders import PluginReminders, Reminders
from apexbridge_trio.results import Results
from apexbridge_trio.settings import Settings, Snapshot
from apexbridge_trio.store import NodeRecord, PluginRows, RevisionRows, Store
from apexbridge_trio.switches import Switches
from apexbridge_trio.tracing import traced
from apexbridge_trio.triggers import Triggers, depth_of
from apexbridge_trio.upstream import Upstream
from apexbridge_trio.web.guards import CALLBACKS, LOCAL

DAY_S: Final = 86_400.0
# Of the start, at most, for looking through the store: some 10 MB on a memory card, 100 MB on an SSD.
CHECK_S: Final = 0.3

log = get_logger("composition")


class Ground(Struct, frozen=True):
    """What the rooms stand on: most of them are handed most of it.

    Attributes:
        config: What is in force first.
        state: The state directory.
        store: The loop's connection.
        written: The journal's own, as its thread writes while the loop reads.
        now: Seconds since the epoch.
    """

    config: Config
    state: Path
    store: Store
    written: Store
    journal: Journal
    flights: Flights
    clock: WallClock
    now: Callable[[], float]


@contextmanager
def open_hub(
    config: Config,
    state: Path,
    *,
    make_upstream: Callable[[config_file.Upstream], Upstream] = Upstream,
    now: Callable[[], float] = time.time,
    file: ConfigFile | None = None,
    source: Source | None = None,
    steady: Callable[[], float] = since_boot,
) -> Iterator[Hub]:
    """Compose the rooms; what they hold open is closed on leaving, synchronously.

    Args:
        config: What is in force first.
        state: The state directory.
        make_upstream: Makes a provider of its entry.
        now: Seconds since the epoch.
        file: Where the config is; None: in the state directory.
        source: What was read there, and says `config`; None: there is no file yet.
        steady: Seconds of a clock that nobody sets.
    """
    with ExitStack() as stack:
        was_used = (state / results.FOLDER).is_dir()
        store = stack.enter_context(Store(state, check_s=CHECK_S, was_used=was_used))
        logs = stack.enter_context(Logs.opened())
        written = stack.enter_context(Store(state))
        journal, flights = Journal(written), Flights()
        clock = WallClock(now, steady, store.newest_ms(doubted_ms(store, now())) / 1000)
        ground = Ground(config, state, store, written, journal, flights, clock, now)
        flights.watchers.append(measures := Measures())
        tracer = stack.enter_context(traced(config.tracing, flights))
        reminders = Reminders(
            flights, journal, read=store, written=written, home=home_zone(config), now=now, clock=clock
        )
        plugins = _plugins(ground, reminders)
        embedded = IntentModel(plugins)
        audit = Audit(store, written, journal, now=now)
        settings = _settings(ground, audit, embedded, make_upstream, file, source)
        stack.callback(settings.close)
        settings.begin()
        pendings = _pendings(ground)
        nodes = _nodes(ground, pendings, settings)
        nodes.registry.noting = partial(_note_node, audit)
        events = Events(bounds=Bounds(events=config.events.keep_events))
        notices = Notices(store, written, journal, events)
        tell(events, notices, pendings, nodes, reminders)
        tell_faults(events, notices, pendings, plugins)
        clock.changed = partial(tell_clock, notices)
        clock.believed = lambda: note_belief(store, audit, now())
        triggers = _triggers(ground, events, notices, nodes)
        limiter = Limiter(config.limits)
        daybook = _daybook(
            limiter, nodes, DayBook(journal, read=ground.store, written=ground.written, clock=ground.clock)
        )
        keys, openings = Keys(store, now=now), Openings()
        switches = Switches(plugins, flights, audit, PluginRows(written))
        keyring = Keyring(keys, flights, openings, audit, journal, read=store, written=written, now=now)
        hub = Hub(
            settings=settings,
            audit=audit,
            clock=clock,
            events=events,
            logs=logs,
            flights=flights,
            journal=journal,
            backgrounds=Backgrounds(flights, config.chat.result_ttl_s),
            plugins=plugins,
            pendings=pendings,
            nodes=nodes,
            notices=notices,
            reminders=reminders,
            triggers=triggers,
            keys=keys,
            limiter=limiter,
            daybook=daybook,
            keyring=keyring,
            openings=openings,
            embedded=embedded,
            started=trio.current_time(),
            state=state,
            measures=measures,
            switches=switches,
            tracer=tracer,
        )
        reminders.actions = triggers.firings.actions = Actions(
            lambda: settings.current, hub.toolbox, partial(_may_act, keys), limiter, events
        )
        settings.follow(partial(configure, hub))
        settings.changed = partial(tell_change, hub)
        settings.refused = partial(tell_refusal, hub)
        yield hub


def _may_act(keys: Keys, owner: Principal) -> bool:
    """Tell whether somebody who once set something may still have it done."""
    return owner.id == LOCAL.id or depth_of(owner) > 0 or keys.is_good(owner.id)


def _plugins(ground: Ground, reminders: Reminders) -> Plugins:
    plugins = load_plugins(
        ground.config,
        ground.state,
        partial(PluginReminders, reminders),
        PluginRows(ground.store).disabled(),
        home=lambda: reminders.home,
    )
    for fault in plugins.faults:
        log.warning("plugin left out", reason=fault)
    for name, note in plugins.notes.items():
        log.warning("plugin is limited", plugin=name, reason=note)
    return plugins


def load_plugins(
    config: Config,
    state: Path,
    reminders: RemindersOf | None = None,
    disabled: Iterable[str] = (),
    home: Callable[[], ZoneInfo] | None = None,
    directories: Sequence[Path] | None = None,
) -> Plugins:
    """Load the plugins that come with the hub, and those of the config's directories; blocks.

    Args:
        config: Says where they are, and how they are held.
        state: The state directory.
        reminders: What a plugin with that permission has.
        disabled: Names of those that are switched off.
        home: Returns the home's zone whenever a plugin asks for the time; None: the config's.
        directories: Others than those.
    """
    zone = home_zone(config)
    return Plugins.load(
        plugin_directories(config) if directories is None else directories,
        state=state,
        clock=lambda: datetime.now(home() if home else zone),
        strict=config.plugins.strict,
        kill_grace_s=config.plugins.kill_grace_s,
        mcp=config.plugins.mcp,
        reminders=reminders,
        disabled=disabled,
    )


def _settings(
    ground: Ground,
    audit: Audit,
    embedded: IntentModel,
    make_upstream: Callable[[config_file.Upstream], Upstream],
    file: ConfigFile | None,
    source: Source | None,
) -> Settings:
    config, flights = ground.config, ground.flights
    upstreams = {entry.name: make_upstream(entry) for entry in config.upstreams}
    settings = Settings(
        file or ConfigFile(None, ground.state, {}),
        Snapshot(config, ModelTable(config.models, upstreams, embedded), source or Source(None), 0),
        read=RevisionRows(ground.store),
        written=RevisionRows(ground.written),
        journal=ground.journal,
        make_upstream=make_upstream,
        is_draining=lambda: flights.is_draining,
        now=ground.now,
    )
    settings.noting = partial(note_change, audit)
    return settings


def _pendings(ground: Ground) -> Pendings:
    config = ground.config
    return Pendings(
        ground.store,
        ground.journal,
        Ledger(ground.written, Results(ground.state)),
        url=callback_url(config, config.server.bind),
        expires_s=config.callbacks.expires_s,
        keep_s=config.results.keep_days * DAY_S,
        clock=ground.clock,
    )


def _nodes(ground: Ground, pendings: Pendings, settings: Settings) -> Nodes:
    nodes = Nodes(
        ground.config.nodes,
        ground.flights,
        ground.journal,
        read=ground.store,
        written=ground.written,
        keep_s=ground.config.results.keep_days * DAY_S,
        callback_url=lambda: pendings.url,
        clock=ground.clock,
    )
    nodes.llm.ask_model = partial(ask_model, lambda: settings.current, pendings)

    async def forward(principal: Principal, callback: ForwardedCallback) -> str:
        taken, sender = read_callback(callback.body), Sender(principal=principal)
        return (await pendings.accept(callback.plugin, callback.task_id, taken, sender)).word

    nodes.callbacks.forward = forward
    return nodes


def _note_node(audit: Audit, record: NodeRecord, by: Actor) -> Callable[[], None]:
    said = {"name": record.name, "type": record.type, "version": record.version}
    return partial(audit.write, audit.line("node.registered", record.id, by, after=said))


def _triggers(ground: Ground, events: Events, notices: Notices, nodes: Nodes) -> Triggers:
    triggers = Triggers(
        ground.config.triggers,
        ground.flights,
        ground.journal,
        read=ground.store,
        written=ground.written,
        notices=notices,
        nodes=nodes.registry.told,
        now=ground.now,
    )
    events.listen(triggers.hearing.listener)
    triggers.firings.clock = ground.clock
    return triggers


def _daybook(limiter: Limiter, nodes: Nodes, daybook: DayBook) -> DayBook:
    """Have the days of an earlier hub go on, and what is used noted."""
    daybook.restore("key", limiter.tokens.of)
    daybook.restore("nodes", nodes.llm.tokens_of)
    limiter.spent = partial(daybook.note, "key")
    nodes.llm.limiter, nodes.llm.spent = limiter, partial(daybook.note, "nodes")
    return daybook


def callback_url(config: Config, address: str) -> str:
    """Return where plugins call back: below the public address, or the one that is listened at."""
    # What listens everywhere is reached from this machine on the loopback.
    reached = address.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")  # noqa: S104  # not bound here
    return f"{config.server.public_url.rstrip('/') or f'http://{reached}'}{CALLBACKS}"
