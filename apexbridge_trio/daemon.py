"""The whole hub: started in order, drained and stopped.

::

    services                     ours; a crash of one is total, systemd restarts
    ├─ signals                   SIGTERM and SIGINT drain, a second one hurries
    ├─ logs                      tells the lines of the log to who reads them
    ├─ watchdog                  tells systemd that the loop turns; of a loop that is blocked it does not
    ├─ backgrounds               chats nobody waits for
    ├─ pendings                  writes what must be on disk, and sweeps tasks that answer later
    ├─ nodes                     tasks of nodes that stand for themselves
    ├─ plugins                   processes that go on after a pending answer, and what stays up
    ├─ reload                    SIGHUP reads the config again
    ├─ loop lag                  notes how late the loop is
    ├─ daybook                   writes what was used of each day's tokens
    ├─ keyring                   notices keys that were revoked or have expired
    ├─ reminders                 looks at the clock on the wall; what they begin is below it
    ├─ triggers                  what lasts, and what they do, is below it
    ├─ serving                   "started" is now, and its end is the end
    ├─ plugin folders            notices that one was changed
    ├─ config file               notices that it was edited
    ├─ local providers           looks for Ollama and llama.cpp, while nothing is configured
    ├─ standing                  tells systemd how many nodes and requests there are
    ├─ forgetting                once a day: lines of the audit, and keys, that are old
    └─ embedded model            once: reads the plugins' sentences; a question waits for it

Draining: the hub is not ready any more (503), new chats are refused with 503, the nodes are told, what is
in flight may finish for `server.drain_timeout_s` seconds, the rest is interrupted and its receipts are
logged, and only then the server stops, so that each client has its end. Sockets are closed with 1001.
"""

import faulthandler
import gc
import signal
import socket
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import trio

from apexbridge_trio import __version__
from apexbridge_trio.activation import passed_sockets
from apexbridge_trio.composition import callback_url, open_hub
from apexbridge_trio.config import Config, ConfigFile, Source
from apexbridge_trio.errors import ApexError, faults_in
from apexbridge_trio.forgetting import forget_old
from apexbridge_trio.hub import Hub
from apexbridge_trio.log import get_logger
from apexbridge_trio.notify import notify
from apexbridge_trio.plugins import watch
from apexbridge_trio.reconfiguration import note_plugins
from apexbridge_trio.serving import Address, ServingLimits, serve
from apexbridge_trio.settings import Origin, watch_file
from apexbridge_trio.standing import tell_standing
from apexbridge_trio.upstream import Upstream, find_local
from apexbridge_trio.watchdog import watchdog
from apexbridge_trio.web.crossing import shown_to
from apexbridge_trio.web.front import Front

# What is interrupted at the end of a drain gets this long to say so to its client.
LAST_WORDS_S: Final = 5.0

# After the drain: those last words, as long again for answers on their way, and the plugins' grace.
ENDING_S: Final = 2 * LAST_WORDS_S + 10.0

# A provider on this machine is looked for this often while none is configured, seconds.
LOOK_EVERY_S: Final = 60.0

log = get_logger("daemon")


async def run_hub(
    config: Config,
    state: Path,
    binds: Sequence[str],
    sockets: Sequence[socket.socket],
    file: ConfigFile,
    source: Source,
) -> None:
    """Serve until a signal has drained the hub.

    "Started" is said on stdout (``listening on …``) and to systemd, once the listeners are there.

    Args:
        config: What it goes by.
        state: The state directory.
        binds: Addresses to listen at.
        sockets: Ones that listen already; they are closed in the end.
        file: Where the config is.
        source: What was read there, and says `config`.
    """
    with open_hub(config, state, file=file, source=source) as hub:
        drained = trio.Event()
        async with trio.open_nursery() as services:
            await services.start(_drain_on_signal, hub, drained, name="signals")
            await services.start(_reload_on_signal, hub, name="reload")
            await services.start(hub.logs.run, name="logs")
            await services.start(watchdog, name="watchdog")
            await services.start(hub.backgrounds.run, name="backgrounds")
            await services.start(hub.pendings.run, name="pendings")
            await services.start(hub.nodes.run, name="nodes")
            await services.start(hub.plugins.run, name="plugins")
            await services.start(hub.reminders.run, name="reminders")
            services.start_soon(hub.measures.lag.run, name="loop lag")
            await services.start(hub.triggers.run, name="triggers")
            await services.start(hub.keyring.run, name="keyring")
            await services.start(hub.daybook.run, name="daybook")
            async with trio.open_nursery() as serving:
                await serving.start(_serve, hub, binds, sockets, drained, name="serving")
                # The start waits for none of these, nor for what they import.
                warm, noted = partial(_warm, hub), partial(note_plugins, hub)
                services.start_soon(watch, hub.plugins, warm, noted, name="plugin folders")
                services.start_soon(watch_file, hub.settings, name="config file")
                services.start_soon(_look_for_local, hub, name="local providers")
                services.start_soon(tell_standing, hub, name="standing")
                services.start_soon(forget_old, hub, name="forgetting")
                services.start_soon(_settle, hub, name="embedded model")
            hub.nodes.close()
            services.cancel_scope.cancel(reason="the server has stopped")


async def _serve(
    hub: Hub,
    binds: Sequence[str],
    sockets: Sequence[socket.socket],
    drained: trio.Event,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept until drained, and say where."""
    accept = partial(
        serve,
        Front(hub),
        binds=binds,
        sockets=sockets,
        limits=partial(_limits_of, hub),
        shutdown=drained.wait,
        on_fault=_log_fault,
        shown_to=shown_to,
    )
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(accept, name="accepting")
        _call_back_at(hub, addresses)
        print(f"listening on {addresses[0]}", flush=True)  # noqa: T201  # scripts read this line
        log.info("ready", version=__version__, addresses=list(map(str, addresses)))
        notify("READY=1")
        task_status.started()


def _limits_of(hub: Hub) -> ServingLimits:
    """Return what peers may take by the config of now."""
    frame_bytes = hub.config.nodes.max_frame_bytes
    return ServingLimits.of(hub.limiter.limits, grace_s=LAST_WORDS_S, frame_bytes=frame_bytes)


def _call_back_at(hub: Hub, addresses: list[Address]) -> None:
    """Have plugins call back at the first address that is one of TCP, or at `server.public_url`."""
    tcp = next((address for address in addresses if address.port), None)
    if tcp is None and not hub.config.server.public_url:
        log.warning("plugins can not call back: listen at an address of TCP too, or set server.public_url")
    reached = hub.config.server.bind if tcp is None else tcp.authority
    hub.pendings.url = callback_url(hub.config, reached)
    hub.settings.follow(partial(_move_callbacks, hub, reached))
    hub.plugins.port = 0 if tcp is None else tcp.port


def _move_callbacks(hub: Hub, address: str, _before: Config, after: Config) -> None:
    hub.pendings.url = callback_url(after, address)


def _log_fault(where: str, fault: BaseException) -> None:
    log.error("a fault was kept inside its connection", where=where, exc_info=fault)


async def _reload_on_signal(
    hub: Hub, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Read the config again at each SIGHUP; systemd is told when that begins and when it is over.

    Signals that come meanwhile are one.
    """
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            # systemd compares the time with its own of the signal (CLOCK_MONOTONIC, microseconds).
            notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            await hub.settings.reload(Origin("signal"))
            notify("READY=1")


async def _drain_on_signal(
    hub: Hub, drained: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Drain at the first signal, hurry at the second."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        await anext(signals)
        patience = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drain, hub, patience, nursery.cancel_scope, name="drain")
            await anext(signals)
            log.warning("hurried: what is in flight is interrupted now")
            patience.cancel(reason="the hub was told to hurry")
    # Only now: whoever watches a chat hears its end.
    hub.events.close()
    hub.logs.close()
    drained.set()


async def _drain(hub: Hub, patience: trio.CancelScope, waiting: trio.CancelScope) -> None:
    """Let what is in flight finish, then interrupt the rest.

    Args:
        hub: Which ends.
        patience: Cancelled when there is no more time.
        waiting: Cancelled when all is done: nobody waits for a second signal then.
    """
    timeout_s = hub.config.server.drain_timeout_s
    hub.flights.is_draining = True
    hub.nodes.drain()
    # Whoever allows a long drain has not thought of TimeoutStopSec= in the unit.
    notify("STOPPING=1", f"EXTEND_TIMEOUT_USEC={round((timeout_s + ENDING_S) * 1_000_000)}")
    log.info("draining", in_flight=len(hub.flights), timeout_s=timeout_s)
    with patience:
        patience.deadline = trio.current_time() + timeout_s
        await hub.flights.empty()
    stops = hub.flights.interrupt_all("the hub is about to end")
    with trio.move_on_after(LAST_WORDS_S):
        await hub.flights.empty()
    for stop in stops:
        log.info("interrupted by the drain", **stop.written())
    waiting.cancel(reason="drained")


async def _settle(hub: Hub) -> None:
    """Finish what the start has left for later; from then on garbage is collected.

    What there is by now stays as long as the process does, and is never looked through: a full round of the
    collector stops the loop, for some 50 ms with it and for next to nothing without.
    """
    await _warm(hub)
    gc.freeze()
    gc.enable()


async def _warm(hub: Hub) -> None:
    """Read the plugins' sentences before somebody asks.

    The server does not wait for it. A question to the embedded model does, so it is answered all the same.
    """
    for fault in await hub.embedded.warm_aside():
        log.warning("sentence left out", reason=fault)


async def _look_for_local(hub: Hub) -> None:
    """Offer the models of a provider on its usual local port, once one is there and none is configured."""
    while True:
        found = await find_local(known=hub.models.upstreams) if _is_to_look(hub.config) else []
        for entry in found if _is_to_look(hub.config) else ():
            log.info("found a local provider; its models are offered", name=entry.name, url=entry.base_url)
            hub.models.add_upstream(Upstream(entry))
        await trio.sleep(LOOK_EVERY_S)


def _is_to_look(config: Config) -> bool:
    return config.chat.find_local and not config.upstreams


def run(config: Config, *, file: ConfigFile, source: Source, state: Path, bind: str | None) -> int:
    """Run the hub until it has been drained; returns the exit code.

    It listens at `bind`, and on the sockets of the service manager; only without both, at the config's.
    """
    # A loop that the watchdog found blocked is ended by SIGABRT: this writes down where it stood.
    faulthandler.enable()
    log.info("starting", version=__version__, config=str(source.path or "defaults"), state=str(state))
    try:
        sockets = passed_sockets()
        binds = [bind] if bind else [] if sockets else [config.server.bind]
        trio.run(run_hub, config, state, binds, sockets, file, source)
    except* (ApexError, OSError) as faults:
        for fault in faults_in(faults):
            log.error("the hub can not run", reason=str(fault))
    else:
        return 0
    return 1
