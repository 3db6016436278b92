"""When a change of each key counts: the one place that says so.

=============  ====================================================================
live           at once, also for what runs already
next-request   what begins from now on; what runs goes on with what it began with
restart        when the hub is started again
=============  ====================================================================
"""

from typing import Final, Literal, get_args, get_origin

import msgspec

from apexbridge_trio.config.schema import Config
from apexbridge_trio.config.toml import is_read

When = Literal["live", "next-request", "restart"]

APPLIED: Final[dict[str, When]] = {
    "server.bind": "restart",
    "server.trusted_proxies": "next-request",
    "server.public_url": "live",
    "server.drain_timeout_s": "live",
    "auth.loopback": "next-request",
    "auth.allowed_hosts": "next-request",
    "chat.default_model": "next-request",
    "chat.max_rounds": "next-request",
    "chat.timeout_s": "next-request",
    "chat.result_ttl_s": "next-request",
    "chat.keepalive_s": "next-request",
    "chat.find_local": "live",
    # A provider whose entry was changed is another one: the one before ends what it answers.
    "upstreams": "next-request",
    "models": "next-request",
    # Opened a moment later, in a thread; what can not be opened is told by GET /v1/plugins.
    "plugins.directories": "live",
    "plugins.timezone": "live",
    "plugins.kill_grace_s": "next-request",
    "plugins.strict": "live",
    "plugins.mcp": "live",
    "callbacks.max_body_bytes": "next-request",
    "callbacks.expires_s": "next-request",
    "callbacks.signing_secret_files": "next-request",
    "results.keep_days": "live",
    "events.keep_events": "live",
    # A node is told its heartbeat and its frame's size when it registers.
    "nodes.heartbeat_interval_s": "next-request",
    "nodes.register_timeout_s": "next-request",
    "nodes.rejoin_grace_s": "live",
    "nodes.task_timeout_s": "next-request",
    "nodes.cancel_wait_s": "live",
    "nodes.max_queued": "live",
    "nodes.max_frame_bytes": "next-request",
    "nodes.max_output_bytes": "live",
    "nodes.llm_requests_per_minute": "live",
    "nodes.llm_tokens_per_day": "live",
    "nodes.llm_concurrent_streams": "live",
    "limits.max_body_bytes": "next-request",
    "limits.max_connections": "live",
    "limits.header_timeout_s": "next-request",
    "limits.body_timeout_s": "next-request",
    "limits.idle_timeout_s": "next-request",
    "limits.send_timeout_s": "next-request",
    **dict.fromkeys(
        (
            "limits.connections_per_address",
            "limits.chats_per_minute",
            "limits.callbacks_per_minute",
            "limits.control_per_minute",
            "limits.keyless_per_minute",
            "limits.wrong_keys_per_minute",
            "limits.tokens_per_day",
            "limits.concurrent_chats",
            "limits.concurrent_streams",
            "limits.channels_per_key",
            "limits.keys",
        ),
        "live",
    ),
    "triggers": "live",
    # Looked at once a day.
    "audit.keep_days": "live",
    "log.level": "live",
    "log.format": "live",
    "tracing.endpoint": "restart",
    "tracing.service_name": "restart",
}


def keys_of(kind: type[msgspec.Struct] = Config, above: str = "") -> list[str]:
    """Return every key of the schema, dotted; an array of tables is one key."""
    found: list[str] = []
    for field in msgspec.structs.fields(kind):
        name = f"{above}{field.encode_name}"
        inner = field.type
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            found += keys_of(inner, f"{name}.")
        elif is_read(inner):
            found.append(name)
    return found


def is_array_of_tables(kind: object) -> bool:
    """Tell whether a key's type is an array of tables."""
    item = get_args(kind)[0] if get_origin(kind) is list else None
    return isinstance(item, type) and issubclass(item, msgspec.Struct)


def value_of(config: Config, key: str) -> object:
    """Return what a config has at a dotted key."""
    value: object = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def changed_keys(before: Config, after: Config) -> dict[str, When]:
    """Return the keys whose values differ, and when each counts.

    What a key leads to counts as the key: a secret whose file holds another one is a change of the
    entry that names the file.
    """
    changed = {key: when for key, when in APPLIED.items() if value_of(before, key) != value_of(after, key)}
    if before.callbacks.signing_secrets != after.callbacks.signing_secrets:
        changed["callbacks.signing_secret_files"] = APPLIED["callbacks.signing_secret_files"]
    return changed
