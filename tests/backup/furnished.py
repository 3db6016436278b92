"""State directories with one of each thing that a backup is for."""

import json
from pathlib import Path

from apexbridge_trio.backup import Written, write_backup
from apexbridge_trio.ledger import Ledger, Sender
from apexbridge_trio.protocol.callback import read_callback
from apexbridge_trio.results import FOLDER, Results
from apexbridge_trio.store import Store, Tasks, results_in
from tests.e2e.test_killed_hub import record_tasks, result_of
from tests.test_store import record

CONFIG = """
[[upstreams]]
name = "a"
base_url = "http://127.0.0.1:1/v1"
api_key_file = "up.key"
[[plugins.mcp]]
name = "m"
url = "http://127.0.0.1:2"
api_key_file = "/etc/far.key"
[callbacks.signing_secret_files]
suno = ["secrets/suno"]
[[triggers]]
name = "w"
on = "alert"
do = "webhook"
url = "https://example.org/x"
secret_file = "hook.key"
"""


def furnish(state: Path, results: int = 5, text: str = "啦啦") -> Path:
    """Make one as a hub leaves it, with so many results; `text` tells two of them apart."""
    state.mkdir(mode=0o700)
    names = record_tasks(state, results)
    with Store(state) as store:
        store.add_key(record(name=text))
        ledger = Ledger(store, Results(state))
        for name in names:
            with store.transaction():
                body = json.dumps(result_of(name)).encode()
                ledger.accept("suno", name, read_callback(body), Sender(call_id=name))
    for name, content in {
        "config.toml": CONFIG,
        "up.key": "sk-1",
        "hook.key": "whsec_2",
        "secrets/suno": "whsec_1",
        "plugins/household/笔记.md": text,
        "plugins/agenda/agenda.ics": "BEGIN:VCALENDAR",
        "nodes/attic/instance": "not the hub's",
        "hub.sqlite3.v1.bak": "an old one",
    }.items():
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        (state / name).write_text(content, "utf-8")
    (state / "plugins/household/link").symlink_to("/etc/passwd")
    # Of a callback that was never acknowledged: no row knows of it.
    (state / FOLDER / "suno/overtaken.json").write_text("{}")
    return state


def backed_up(state: Path, target: Path) -> Written:
    return write_backup(state, target, config=state / "config.toml", env={})


def contents(state: Path) -> dict[str, str]:
    """Return all files that a backup is for, but the database."""
    return {
        path.relative_to(state).as_posix(): path.read_text("utf-8")
        for path in state.rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and not path.name.startswith("hub.")
        and not path.relative_to(state).parts[0].startswith(("before-restore", "nodes"))
        and path.name != "overtaken.json"
    }


def check_whole(state: Path, text: str = "啦啦") -> list[str]:
    """Check that each result the database knows of is there, and the key; returns the results' names."""
    with Store(state, check_s=60, was_used=True) as store:
        [key] = store.keys()
        assert key.name == text
        rows = [one for one in Tasks(store).listed(None, None) if one.digest]
        for row in rows:
            assert row.task_id is not None
            body = Results(state).find("suno", row.task_id)
            assert body is not None, row
            assert read_callback(body).digest == row.digest
    assert len(results_in(state / "hub.sqlite3")) == len(rows)
    return sorted(row.task_id or "" for row in rows)
