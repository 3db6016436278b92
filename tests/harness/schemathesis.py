"""Schemathesis against a running hub: it asks what the document tells, and holds the answers against it."""

import sys
from pathlib import Path
from typing import Any

import trio

from tests.harness.house import House, make_key

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance"
)
# 503 and 504 are answers of their own: nobody can do it now, and not in time.
SETTINGS = """
continue-on-failure = true
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 503, 504]
[parameters]
"query.follow" = "false"
"""
KNOWN = """
"path.model_id" = "apex-intents"
"path.node_id" = "attic"
"path.task_id" = "{task}"
"path.notice_id" = "{notice}"
"path.reminder_id" = "{reminder}"
"path.plugin" = "calculator"
"path.name" = "calculator"
"path.key_id" = "{key}"
"path.revision" = "{revision}"
"""
# Of the name that the plugin has: both are asked for by name.
TRIGGER = '[[triggers]]\nname = "calculator"\non = "chat.failed"\ndo = "notify"\n'


async def furnish(home: House) -> str:
    """Have something of each kind there, and return the settings that name it."""
    asked = {"toolName": "calculator", "toolArgs": {"expression": "6*7"}, "waitForResult": True}
    return KNOWN.format(
        task=await made(home, "/v1/tasks", asked, "taskId"),
        notice=await made(home, "/v1/notifications", {"message": "hello"}),
        reminder=await made(home, "/v1/reminders", {"text": "tea", "in": 86_000}),
        key=await made(home, "/v1/keys", {"scopes": ["chat"]}),
        revision=(await home.get("/v1/config/history"))[0]["revision"],
    )


async def made(home: House, path: str, body: dict[str, Any], name: str = "id") -> str:
    reply = await home.post(path, body)
    assert reply.is_success, reply.text
    found: str = reply.json()[name]
    return found


async def attack(home: House, folder: Path, *options: str, known: bool) -> tuple[str, str]:
    """Ask for everything with a key that may everything.

    Returns:
        What was found, nothing if nothing was; and how many cases there were, in words.

    Args:
        home: A hub with a node `attic`, and `TRIGGER`.
        folder: To write in.
        options: Of Schemathesis.
        known: Ask for what is there; else for ids that are not.
    """
    key = await make_key(home.state / "hub", "admin", "chat", "callback", "logs")
    (folder / "st.toml").write_text(SETTINGS + (await furnish(home) if known else ""), "utf-8")
    command = [
        str(Path(sys.executable).with_name("st")), "--config-file", str(folder / "st.toml"), "--no-color",
        "run", f"{home.hub.url}/openapi.json", "--header", f"Authorization: Bearer {key}", "--checks", CHECKS,
        "--phases", "coverage,fuzzing", "--request-timeout", "60", *options,
    ]  # fmt: skip
    ended = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False, cwd=folder)
    said = ended.stdout.decode() + ended.stderr.decode()
    assert "Test cases:" in said, said
    cases = said.partition("Test cases:")[2].split("\n")[1].strip()
    return said if ended.returncode else "", cases
