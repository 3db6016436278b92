"""What each key of ``config.toml`` is, its default, and what it may be."""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, field

from apexbridge_trio.config.secret import Secret
from apexbridge_trio.log import Format, Level

# Above these a value is a slip, and one that a float or a clock can not hold would fail where it is used.
Seconds = Annotated[float, Meta(gt=0, le=1e9)]
Days = Annotated[float, Meta(gt=0, le=36_500)]
Count = Annotated[int, Meta(ge=1, le=2**53)]
# 0: there is no limit.
Most = Annotated[int, Meta(ge=0, le=2**53)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
ToolChoice = Literal["all", "none"] | list[Name]
Condition = str | bool | int | float | list[str | bool | int | float]


# The model that needs no provider: always there, so every name of a model may be this one.
EMBEDDED: Final = "apex-intents"


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the hub listens, and how it ends."""

    bind: str = "127.0.0.1:8088"
    public_url: str = ""
    drain_timeout_s: Seconds = 20.0
    trusted_proxies: list[Name] = field(default_factory=list)


class Auth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may do what without a key."""

    loopback: Literal["chat", "none"] = "chat"
    allowed_hosts: list[Name] = field(default_factory=list)


class Chat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What holds for every chat."""

    default_model: Name = EMBEDDED
    max_rounds: Count = 8
    timeout_s: Seconds = 300.0
    result_ttl_s: Seconds = 900.0
    keepalive_s: Seconds = 10.0
    find_local: bool = True


class Upstream(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model provider with an OpenAI-compatible API.

    Attributes:
        api_key: What `api_key_file` or `api_key_env` led to when the config was loaded.
    """

    name: Name
    base_url: Name
    api_key_file: str = ""
    api_key_env: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    models: list[Name] = field(default_factory=list)
    tools: ToolChoice = "none"
    proxy: str = ""
    connect_timeout_s: Seconds = 5.0
    idle_timeout_s: Seconds = 60.0
    max_concurrency: Count = 64
    attempts: Count = 3
    api_key: Annotated[Secret | None, Meta(extra={"toml": False})] = None


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model the hub offers by a name and with tools of its own."""

    id: Name
    upstream: Name
    name: str = ""
    tools: ToolChoice = "none"
    fallback: list[Name] = field(default_factory=list)
    system: str = ""


class Mcp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A server of the Model Context Protocol whose tools the hub offers.

    Attributes:
        api_key: What `api_key_file` or `api_key_env` led to when the config was loaded.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    command: list[Name] = field(default_factory=list)
    url: str = ""
    allow_network: bool = False
    api_key_file: str = ""
    api_key_env: str = ""
    api_key: Annotated[Secret | None, Meta(extra={"toml": False})] = None


class Plugins(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where plugins are, the time zone they live in, and how they are held."""

    directories: list[Name] = field(default_factory=list)
    timezone: str = ""
    kill_grace_s: Seconds = 2.0
    strict: bool = False
    mcp: list[Mcp] = field(default_factory=list)


class Callbacks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How results that come later are taken.

    Attributes:
        signing_secrets: By plugin, what `signing_secret_files` led to when the config was loaded.
    """

    max_body_bytes: Count = 1_048_576
    expires_s: Seconds = 86_400.0
    signing_secret_files: dict[Name, list[Name]] = field(default_factory=dict)
    signing_secrets: Annotated[dict[str, list[Secret]], Meta(extra={"toml": False})] = field(
        default_factory=dict
    )


class Results(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long results that came later are kept."""

    keep_days: Days = 30.0


class Events(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is told as it happens, for who was away."""

    keep_events: Count = 1000


class Nodes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Machines that join, and what they may take of the hub."""

    heartbeat_interval_s: Seconds = 10.0
    register_timeout_s: Seconds = 10.0
    rejoin_grace_s: Seconds = 10.0
    task_timeout_s: Seconds = 60.0
    cancel_wait_s: Seconds = 5.0
    max_queued: Count = 256
    max_frame_bytes: Count = 16_777_216
    max_output_bytes: Count = 65_536
    llm_requests_per_minute: Count = 60
    llm_tokens_per_day: Count = 1_000_000
    llm_concurrent_streams: Count = 4


class Trigger(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the hub does by itself when something happens.

    Attributes:
        on: The event's type, a key of `protocol.happened.FIELDS`.
        when: By field of the event, the value it must have, or a list of such.
        for_s: How long that must last; another event of the same thing takes it back. 0: at once.
        secret: What `secret_file` or `secret_env` led to when the config was loaded.
    """

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    on: Name
    do: Literal["notify", "alert", "tool", "chat", "webhook"]
    when: dict[Name, Condition] = field(default_factory=dict)
    for_s: Annotated[float, Meta(ge=0)] = 0.0
    tenant: str = "default"
    family: str = ""
    text: str = ""
    title: str = ""
    level: Literal["info", "warning", "error"] = "info"
    prompt: str = ""
    tool: str = ""
    args: dict[str, Any] = field(default_factory=dict)
    url: str = ""
    secret_file: str = ""
    secret_env: str = ""
    allow_private: list[Name] = field(default_factory=list)
    max_per_hour: Count = 60
    timeout_s: Seconds = 300.0
    secret: Annotated[Secret | None, Meta(extra={"toml": False})] = None


class KeyLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one key may take of the hub; None: as every other."""

    chats_per_minute: Most | None = None
    callbacks_per_minute: Most | None = None
    control_per_minute: Most | None = None
    tokens_per_day: Most | None = None
    concurrent_chats: Most | None = None
    concurrent_streams: Most | None = None
    channels: Most | None = None


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one peer may take of the hub; what is a `Most` is not limited at 0.

    Attributes:
        keys: By a key's id, what is different for it.
    """

    max_body_bytes: Count = 8_388_608
    max_connections: Count = 1000
    header_timeout_s: Seconds = 10.0
    body_timeout_s: Seconds = 30.0
    idle_timeout_s: Seconds = 75.0
    send_timeout_s: Seconds = 20.0
    connections_per_address: Most = 256
    chats_per_minute: Most = 1200
    callbacks_per_minute: Most = 3000
    control_per_minute: Most = 3000
    keyless_per_minute: Most = 600
    wrong_keys_per_minute: Most = 20
    tokens_per_day: Most = 0
    concurrent_chats: Most = 256
    concurrent_streams: Most = 256
    channels_per_key: Most = 256
    keys: dict[Name, KeyLimits] = field(default_factory=dict)


class Audit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long it is known who changed what.

    Attributes:
        keep_days: A month at least: who gets hold of an administrator's key can not have what was done
            with it forgotten before.
    """

    keep_days: Annotated[float, Meta(ge=30, le=36_500)] = 730.0


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is logged, and how it looks."""

    level: Level = "info"
    format: Format = "auto"


class Tracing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where spans are sent to, by OTLP over HTTP; empty: nowhere."""

    endpoint: str = ""
    service_name: Name = "apexbridge"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of it. A request in flight finishes on the snapshot it began with."""

    server: Server = field(default_factory=Server)
    auth: Auth = field(default_factory=Auth)
    chat: Chat = field(default_factory=Chat)
    upstreams: list[Upstream] = field(default_factory=list)
    models: list[Model] = field(default_factory=list)
    plugins: Plugins = field(default_factory=Plugins)
    callbacks: Callbacks = field(default_factory=Callbacks)
    results: Results = field(default_factory=Results)
    events: Events = field(default_factory=Events)
    nodes: Nodes = field(default_factory=Nodes)
    triggers: list[Trigger] = field(default_factory=list)
    limits: Limits = field(default_factory=Limits)
    audit: Audit = field(default_factory=Audit)
    log: Log = field(default_factory=Log)
    tracing: Tracing = field(default_factory=Tracing)
