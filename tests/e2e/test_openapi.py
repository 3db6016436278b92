"""The document held against the running hub by Schemathesis: no 500, no answer outside its schema."""

import sys
from pathlib import Path

import pytest
import trio

from tests.harness.house import NET_S, House, house

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
"""


async def furnish(home: House) -> str:
    """Have something of each kind there, and return the settings that name it."""
    asked = {"toolName": "calculator", "toolArgs": {"expression": "6*7"}, "waitForResult": True}
    done = await home.post("/v1/tasks", asked)
    assert done.is_success, done.text
    told = await home.post("/v1/notifications", {"message": "hello"})
    set_ = await home.post("/v1/reminders", {"text": "tea", "in": 86_000})
    return KNOWN.format(task=done.json()["taskId"], notice=told.json()["id"], reminder=set_.json()["id"])


async def attack(home: House, folder: Path, *options: str) -> str:
    """Run Schemathesis; returns what it says if it finds something."""
    key = home.admin.headers["authorization"]
    command = [
        str(Path(sys.executable).with_name("st")), "--config-file", str(folder / "st.toml"), "--no-color",
        "run", f"{home.hub.url}/openapi.json", "--header", f"Authorization: {key}", "--checks", CHECKS,
        "--phases", "coverage,fuzzing", "--request-timeout", "60", *options,
    ]  # fmt: skip
    ended = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False, cwd=folder)
    said = ended.stdout.decode() + ended.stderr.decode()
    assert "Test cases:" in said, said
    return said if ended.returncode else ""


@pytest.mark.parametrize("known", [False, True], ids=["unknown ids", "known ids"])
async def test_no_answer_is_outside_the_document(tmp_path: Path, *, known: bool) -> None:
    with trio.fail_after(NET_S * 3):
        async with house(tmp_path) as home, home.node("attic"):
            settings = SETTINGS + (await furnish(home) if known else "")
            (tmp_path / "st.toml").write_text(settings, "utf-8")
            found = await attack(home, tmp_path, "--max-examples", "5", "--seed", "1")
            assert not found, found
            assert (await home.get("/health"))["status"] == "ok"
