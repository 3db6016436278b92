"""Every operation of the hub. A test holds this list against the routes there are, both ways."""

from typing import Any, Final

from apexbridge_trio.protocol.client import InterruptRequest
from apexbridge_trio.protocol.openai import ChatRequest
from apexbridge_trio.reminders.wanted import Wanted
from apexbridge_trio.web.nodes import STATUSES
from apexbridge_trio.web.notices import NotificationRequest
from apexbridge_trio.web.openapi import shapes
from apexbridge_trio.web.openapi.care import CARE
from apexbridge_trio.web.openapi.operation import Operation, Query
from apexbridge_trio.web.tasks import STATES, TaskRequest

_ANSWERS: Final = {200: shapes.Completion, 202: shapes.Accepted}
_STREAM: Final = "text/event-stream"
_DEVICE: Final = Query("device", "What the device calls itself, if several use one key.")
_CHAT: Final = "Answer a chat: whole, streamed (`stream`), or in the background (`apex.background`)."

HEALTH: Final = [
    Operation("GET", "/health", "How the hub is.", {200: shapes.Health}),
    Operation("GET", "/health/live", "Whether the hub runs.", {200: shapes.Health}),
    Operation(
        "GET",
        "/health/ready",
        "Whether the hub takes new work; 503 if not.",
        {200: shapes.Health, 503: shapes.Health},
    ),
]
CHATS: Final = [
    Operation("POST", "/v1/chat/completions", _CHAT, _ANSWERS, body=ChatRequest, text=_STREAM),
    Operation("POST", "/v1/chatvcp/completions", "An alias.", _ANSWERS, body=ChatRequest, text=_STREAM),
    Operation("GET", "/v1/models", "The models that can be asked.", {200: shapes.ModelList}),
    Operation("GET", "/v1/models/{model_id}", "One model.", {200: shapes.ModelEntry}),
    Operation(
        "POST",
        "/v1/interrupt",
        "Stop something, and be told what stopped and when.",
        {200: shapes.Receipt},
        body=InterruptRequest,
    ),
    Operation("GET", "/v1/requests", "The live tree of what is running.", {200: list[shapes.FlightEntry]}),
    Operation("GET", "/v1/requests/{request_id}", "One request of it.", {200: shapes.RequestEntry}),
]
NODES: Final = [
    Operation(
        "GET",
        "/v1/nodes",
        "The machines that have joined.",
        {200: list[shapes.NodeEntry]},
        query=(
            Query("status", "Only of this status.", {"enum": list(STATUSES)}),
            Query("type", "Only of this type."),
            Query("capability", "Only those that can do this."),
        ),
    ),
    Operation("GET", "/v1/nodes/{node_id}", "One machine.", {200: shapes.NodeEntry}),
    Operation("DELETE", "/v1/nodes/{node_id}", "Forget a machine.", {200: shapes.Forgotten}, only_admin=True),
    Operation(
        "POST",
        "/v1/nodes/{node_id}/drain",
        "Give it no new tasks.",
        {200: shapes.NodeEntry},
        only_admin=True,
    ),
    Operation(
        "POST", "/v1/nodes/{node_id}/resume", "Give it tasks again.", {200: shapes.NodeEntry}, only_admin=True
    ),
    Operation(
        "POST",
        "/v1/nodes/{node_id}/tasks",
        "Have this machine do something.",
        {200: shapes.TaskEntry, 202: shapes.TaskAccepted},
        body=TaskRequest,
        only_admin=True,
    ),
]
TASKS: Final = [
    Operation(
        "GET",
        "/v1/tasks",
        "The tasks of nodes and plugins, the newest first.",
        {200: list[shapes.TaskEntry]},
        query=(
            Query("state", "Only in this state.", {"enum": sorted(STATES)}),
            Query("node", "Only of this machine."),
        ),
    ),
    Operation(
        "POST",
        "/v1/tasks",
        "Have any able machine do something.",
        {200: shapes.TaskEntry, 202: shapes.TaskAccepted},
        body=TaskRequest,
        only_admin=True,
    ),
    Operation("GET", "/v1/tasks/{task_id}", "One task, whole.", {200: shapes.TaskEntry}),
    Operation("DELETE", "/v1/tasks/{task_id}", "Stop a task.", {200: shapes.Receipt}),
    Operation("POST", "/v1/tasks/{task_id}/retry", "Do it once more.", {202: shapes.TaskAccepted}),
    Operation(
        "POST",
        "/plugin-callback/{plugin}/{task_id}",
        "Bring a result that comes later, with the task's token, a key or a signature.",
        {200: shapes.Taken},
        body=dict[str, Any],
    ),
]
TOLD: Final = [
    Operation(
        "GET",
        "/v1/events",
        "What happens, as server-sent events.",
        {200: None},
        text=_STREAM,
        query=(
            Query("topics", "Only these, with commas between them."),
            Query("epoch", "With `seq`: what was had last."),
            Query("seq", "Go on after this number."),
            Query("follow", "`false`: end with what there is.", {"enum": ["true", "false"]}),
            _DEVICE,
        ),
    ),
    Operation(
        "POST", "/v1/notifications", "Tell somebody something.", {201: shapes.Done}, body=NotificationRequest
    ),
    Operation(
        "GET",
        "/v1/notifications",
        "What is still to be told on this device.",
        {200: list[shapes.NoticeEntry]},
        query=(_DEVICE,),
    ),
    Operation(
        "GET", "/v1/notifications/{notice_id}", "A notice, and who has seen it.", {200: shapes.NoticeWhole}
    ),
    Operation(
        "POST",
        "/v1/notifications/{notice_id}/ack",
        "It has been seen on this device.",
        {200: shapes.Done},
        query=(_DEVICE,),
    ),
    Operation("POST", "/v1/reminders", "Set a reminder.", {201: shapes.ReminderEntry}, body=Wanted),
    Operation("GET", "/v1/reminders", "What is still to come.", {200: list[shapes.ReminderEntry]}),
    Operation("GET", "/v1/reminders/{reminder_id}", "One reminder.", {200: shapes.ReminderEntry}),
    Operation("DELETE", "/v1/reminders/{reminder_id}", "Remove a reminder.", {200: shapes.ReminderEntry}),
]
OPERATIONS: Final = [*HEALTH, *CHATS, *NODES, *TASKS, *TOLD, *CARE]
