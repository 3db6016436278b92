"""A config that has changed: the rooms go by it, and people are told.

A room that reads the config when it needs it, by `hub.config` or a snapshot, is not here; a room that was
handed a value of it is, and each of these takes the new one in the same step.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from apexbridge_trio.audit import FILE, SIGNAL, Action, Actor, Audit
from apexbridge_trio.config import Config, shipped
from apexbridge_trio.errors import StoreUnusable, TooMany
from apexbridge_trio.hub import Hub
from apexbridge_trio.identity import Principal
from apexbridge_trio.log import configure as configure_log
from apexbridge_trio.log import get_logger
from apexbridge_trio.plugins import machine_zone
from apexbridge_trio.settings import Change, Origin
from apexbridge_trio.web.guards import LOCAL

DAY_S: Final = 86_400.0

log = get_logger("config")


def home_zone(config: Config) -> ZoneInfo:
    """Return the zone of "today" and "at eight"."""
    return ZoneInfo(config.plugins.timezone) if config.plugins.timezone else machine_zone()


def plugin_directories(config: Config) -> list[Path]:
    """Return where plugins are: what comes with the hub, and what the config says."""
    return [shipped("plugins"), *map(Path, config.plugins.directories)]


def configure(hub: Hub, before: Config, after: Config) -> None:
    """Have the rooms that were handed values of the config go by another one, in one step.

    What reads the config when it needs it, by `hub.config` or a snapshot, is not here.
    """
    keep_s = after.results.keep_days * DAY_S
    hub.backgrounds.keep_s = after.chat.result_ttl_s
    hub.pendings.expires_s, hub.pendings.keep_s = after.callbacks.expires_s, keep_s
    hub.nodes.configure(after.nodes, keep_s)
    hub.events.keep(after.events.keep_events)
    if before.limits != after.limits:
        hub.limiter.replace(after.limits)
    if before.triggers != after.triggers:
        hub.triggers.replace(after.triggers)
    if before.log != after.log:
        configure_log(after.log.level, after.log.format)
    if before.plugins.timezone != after.plugins.timezone:
        hub.reminders.move(home_zone(after))
    if before.plugins != after.plugins:
        hub.plugins.configure(
            plugin_directories(after),
            strict=after.plugins.strict,
            kill_grace_s=after.plugins.kill_grace_s,
            mcp=after.plugins.mcp,
        )


_ACTORS: Final = {"edit": FILE, "start": FILE, "signal": SIGNAL}


def note_change(audit: Audit, change: Change) -> Callable[[], None]:
    """Return what notes a change in the audit."""
    of = change.origin
    by = _ACTORS.get(of.kind) or Actor(of.principal_id, of.address, of.tenant_id, of.family_id, of.request_id)
    action: Action = "config.rolled_back" if change.origin.kind == "rollback" else "config.changed"
    # What has changed while no hub ran can not be told: the history keeps no secrets to compare with.
    after = {"foundAt": "start"} if of.kind == "start" else change.applied
    return partial(audit.write, audit.line(action, change.revision, by, after=after))


def note_plugins(hub: Hub, folders: list[Path]) -> None:
    """Note in the audit that somebody has put something else into plugins' folders."""
    for folder in folders:
        place = hub.plugins.place(folder)
        what = "refused" if place.fault else "loaded" if place.plugin else "removed"
        hub.audit.note("plugin.reloaded", folder.name, FILE, after={"is": what})


def tell_change(hub: Hub, change: Change) -> None:
    """Tell every household of a change that is in force: its keys, and none of its values."""
    said = {"revision": change.revision, "changed": change.applied, "origin": change.origin.kind}
    for tenant in {LOCAL.tenant_id, *_tenants(hub)}:
        hub.events.publish("config.changed", Principal("config", tenant), said)


def tell_refusal(hub: Hub, reason: str, origin: Origin) -> None:
    """Note that an edit of the config was refused, and tell those who may mend it."""
    hub.audit.note("config.refused", "config.toml", _ACTORS.get(origin.kind, FILE), after={"reason": reason})
    for tenant in _tenants(hub, "admin") or {LOCAL.tenant_id}:
        try:
            hub.notices.owe(
                "alert",
                Principal("config", tenant),
                reason,
                level="error",
                title="The config was not taken over",
            )
        except (TooMany, StoreUnusable) as fault:
            log.warning("nobody is told of the config", tenant=tenant, reason=fault.message)


def _tenants(hub: Hub, scope: str = "") -> set[str]:
    """Return the tenants with a key that may be used; none, while the store can not be read."""
    try:
        return hub.keyring.tenants(scope)
    except StoreUnusable as fault:
        # Who asks is a task whose end is the hub's; a change needs nobody's key to count.
        log.error("of the config only the hub's own tenant is told", reason=fault.message)
        return set()
