"""The operations of who looks after the hub: plugins, keys, audit, triggers, log, metrics."""

from typing import Any, Final

from apexbridge_trio.store.audit import MOST_LISTED
from apexbridge_trio.store.keys import MOST_KEYS_LISTED
from apexbridge_trio.web.config import Candidate, Target
from apexbridge_trio.web.keys import KeyRequest
from apexbridge_trio.web.openapi import shapes
from apexbridge_trio.web.openapi.operation import ID_SCHEMA, Operation, Query, how_many

_IF_MATCH: Final = Query("If-Match", "The ETag of what is changed, or `*`.")

PLUGINS: Final = [
    Operation("GET", "/v1/plugins", "The plugins there are.", {200: list[shapes.PluginEntry]}),
    Operation("POST", "/v1/plugins/{name}/enable", "Offer it again.", {200: shapes.PluginEntry}),
    Operation(
        "POST",
        "/v1/plugins/{name}/disable",
        "Offer it no more, over restarts too.",
        {200: shapes.PluginEntry},
        query=(Query("interrupt", "`true`: also stop what runs of it.", {"enum": ["true", "false"]}),),
    ),
    Operation("POST", "/v1/plugins/{name}/reload", "Read its folder anew.", {200: list[shapes.PluginEntry]}),
]
KEYS: Final = [
    Operation("POST", "/v1/keys", "Make a key, shown this once.", {201: shapes.NewKey}, body=KeyRequest),
    Operation(
        "GET",
        "/v1/keys",
        "What is kept of every key, never the key.",
        {200: shapes.KeyPage},
        query=(
            how_many(MOST_KEYS_LISTED),
            Query("after", "Only those after the key of this id.", ID_SCHEMA),
            Query("tenantId", "Only of this tenant.", ID_SCHEMA),
        ),
    ),
    Operation("GET", "/v1/keys/{key_id}", "One key.", {200: shapes.KeyEntry}),
    Operation("DELETE", "/v1/keys/{key_id}", "Revoke it, and end what it has open.", {200: shapes.KeyEntry}),
]
CONFIG: Final = [
    Operation("GET", "/v1/config", "The config in force; its ETag is the revision.", {200: dict[str, Any]}),
    Operation(
        "PATCH",
        "/v1/config",
        "A JSON merge patch; If-Match says for which revision.",
        {200: shapes.ConfigChange},
        body=dict[str, Any],
        headers=(_IF_MATCH,),
    ),
    Operation(
        "POST",
        "/v1/config/validate",
        "Say what is wrong with a file or a patch, and what it would change.",
        {200: shapes.ConfigVerdict},
        body=Candidate,
    ),
    Operation("GET", "/v1/config/history", "The revisions.", {200: list[shapes.ConfigRevision]}),
    Operation("GET", "/v1/config/history/{revision}", "One, with its file.", {200: shapes.ConfigRevision}),
    Operation(
        "POST",
        "/v1/config/rollback",
        "Go back to one.",
        {200: shapes.ConfigChange},
        body=Target,
        headers=(_IF_MATCH,),
    ),
]
CARE: Final = [
    *PLUGINS,
    *KEYS,
    *CONFIG,
    Operation(
        "GET",
        "/v1/audit",
        "Who changed what, when, from where.",
        {200: shapes.AuditPage},
        query=(
            how_many(MOST_LISTED),
            Query("before", "Only those before this number.", {"type": "integer", "minimum": 1}),
            Query("action", "Only of this kind."),
        ),
    ),
    Operation("GET", "/v1/triggers", "The triggers, and how they stand.", {200: list[shapes.TriggerEntry]}),
    Operation("POST", "/v1/triggers/{name}/test", "Do once what it does.", {202: dict[str, Any]}),
    Operation(
        "GET",
        "/v1/logs",
        "The log, as server-sent events.",
        {200: None},
        text="text/event-stream",
        query=(
            Query("level", "This and above.", {"enum": ["debug", "info", "warning", "error"]}),
            Query("request", "Only of this request."),
            Query("node", "Only of this machine."),
            Query("follow", "`false`: end with what there is.", {"enum": ["true", "false"]}),
        ),
    ),
    Operation("GET", "/metrics", "What Prometheus reads.", {200: None}, text="text/plain"),
    Operation("GET", "/openapi.json", "This document.", {200: dict[str, Any]}),
]
