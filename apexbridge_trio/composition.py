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

from apexbridge_trio import config as config_file
from apexbridge_trio import results
from apexbridge_trio.actions import Actions
from apexbridge_trio.audit import Audit
from apexbridge_trio.background import Backgrounds
from apexbridge_trio.belief import doubted_ms, note_belief
from apexbridge_trio.clock import WallClock, since_boot
from apexbridge_trio.config import Config, ConfigFile, Source
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
from apexbridge_trio.store import PluginRows, RevisionRows, Store
from apexbridge_trio.switches import Switches
from apexbridge_trio.tracing import traced
from apexbridge_trio.triggers import Triggers, depth_of
from apexbridge_trio.upstream import Upstream
from apexbridge_trio.web.guards import CALLBACKS, LOCAL

DAY_S: Final = 86_400.0
# Of the start, at most, for looking through the store: some 10 MB on a memory card, 100 MB on an SSD.
CHECK_S: Final = 0.3

log = get_logger("composition")


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
        # A connection of its own, as its thread writes while the loop reads.
        written = stack.enter_context(Store(state))
        journal = Journal(written)
        flights = Flights()
        flights.watchers.append(measures := Measures())
        tracer = stack.enter_context(traced(config.tracing, flights))
        clock = WallClock(now, steady, store.newest_ms(doubted_ms(store, now())) / 1000)
        reminders = Reminders(
            flights, journal, read=store, written=written, home=home_zone(config), now=now, clock=clock
        )
        plugins = load_plugins(
            config,
            state,
            partial(PluginReminders, reminders),
            PluginRows(store).disabled(),
            home=lambda: reminders.home,
        )
        for fault in plugins.faults:
            log.warning("plugin left out", reason=fault)
        for name, note in plugins.notes.items():
            log.warning("plugin is limited", plugin=name, reason=note)
        upstreams = {entry.name: make_upstream(entry) for entry in config.upstreams}
        embedded = IntentModel(plugins)
        audit = Audit(store, written, journal, now=now)
        settings = Settings(
            file or ConfigFile(None, state, {}),
            Snapshot(config, ModelTable(config.models, upstreams, embedded), source or Source(None), 0),
            read=RevisionRows(store),
            written=RevisionRows(written),
            journal=journal,
            make_upstream=make_upstream,
            is_draining=lambda: flights.is_draining,
            now=now,
        )
        stack.callback(settings.close)
        settings.noting = partial(note_change, audit)
        settings.begin()
        pendings = _pendings(config, state, store, written, journal, clock)
        nodes = _nodes(config, flights, journal, store, written, pendings, settings, clock)
        notices = Notices(
            store, written, journal, events := Events(bounds=Bounds(events=config.events.keep_events))
        )
        tell(events, notices, pendings, nodes, reminders)
        tell_faults(events, notices, pendings, plugins)
        clock.changed = partial(tell_clock, notices)
        clock.believed = lambda: note_belief(store, audit, now())
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
        triggers.firings.clock = clock
        limiter = Limiter(config.limits)
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


def _pendings(
    config: Config, state: Path, store: Store, written: Store, journal: Journal, clock: WallClock
) -> Pendings:
    return Pendings(
        store,
        journal,
        Ledger(written, Results(state)),
        url=callback_url(config, config.server.bind),
        expires_s=config.callbacks.expires_s,
        keep_s=config.results.keep_days * DAY_S,
        clock=clock,
    )


def _nodes(
    config: Config,
    flights: Flights,
    journal: Journal,
    store: Store,
    written: Store,
    pendings: Pendings,
    settings: Settings,
    clock: WallClock,
) -> Nodes:
    nodes = Nodes(
        config.nodes,
        flights,
        journal,
        read=store,
        written=written,
        keep_s=config.results.keep_days * DAY_S,
        callback_url=lambda: pendings.url,
        clock=clock,
    )
    nodes.llm.ask_model = partial(ask_model, lambda: settings.current, pendings)

    async def forward(principal: Principal, callback: ForwardedCallback) -> str:
        taken, sender = read_callback(callback.body), Sender(principal=principal)
        return (await pendings.accept(callback.plugin, callback.task_id, taken, sender)).word

    nodes.callbacks.forward = forward
    return nodes


def callback_url(config: Config, address: str) -> str:
    """Return where plugins call back: below the public address, or the one that is listened at."""
    # What listens everywhere is reached from this machine on the loopback.
    reached = address.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")  # noqa: S104  # not bound here
    return f"{config.server.public_url.rstrip('/') or f'http://{reached}'}{CALLBACKS}"
