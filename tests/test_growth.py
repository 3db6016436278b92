"""Years of use: what is forgotten makes room for what comes, so the files on disk stop growing."""

import json
from pathlib import Path

from apexbridge_trio.identity import Principal
from apexbridge_trio.ledger import Ledger, Sender
from apexbridge_trio.pending.call import hash_of
from apexbridge_trio.protocol.callback import read_callback
from apexbridge_trio.results import FOLDER, Results
from apexbridge_trio.store import FILE, NodeRows, NodeTaskRecord, Store, row_of

DAY_S = 86_400
KEEP_DAYS = 3
A_DAY = 20
BODY = json.dumps({"status": "success", "output": "x" * 2000}).encode()


def test_weeks_of_tasks_take_no_more_than_the_first_days(tmp_path: Path) -> None:
    now, sizes = 1.8e9, []
    with Store(tmp_path) as store:
        store.execute("PRAGMA synchronous = OFF")  # a power cut is not what this test is about
        store.execute("PRAGMA wal_autocheckpoint = 50")  # else the log is folded back at 4 MB
        ledger, rows = Ledger(store, Results(tmp_path), now=lambda: now), NodeRows(store)
        for day in range(16):
            with store.transaction():
                for number in range(A_DAY):
                    one_task(ledger, rows, f"t{day}-{number}", int(now * 1000))
                now += DAY_S
                assert ledger.sweep(KEEP_DAYS * DAY_S).is_all
                rows.delete_ended(int(now - KEEP_DAYS * DAY_S) * 1000, 10_000)
            log = tmp_path / f"{FILE}-wal"
            sizes.append((tmp_path / FILE).stat().st_size + log.stat().st_size)
            assert len(list((tmp_path / FOLDER / "suno").iterdir())) <= (KEEP_DAYS + 1) * A_DAY
    assert sizes[-1] <= max(sizes[: 3 * KEEP_DAYS])


def one_task(ledger: Ledger, rows: NodeRows, name: str, ms: int) -> None:
    owner = Principal("anne")
    ledger.open(name, plugin="suno", tool="sing", owner=owner, token_hash=hash_of(name), expires_s=60)
    ledger.name(name, name)
    ledger.accept("suno", name, read_callback(BODY), Sender(call_id=name))
    done = NodeTaskRecord(
        id=f"n{name}", tool="w", args=b"{}", timeout_ms=1, created_ms=ms, deadline_ms=ms, principal_id="a",
        tenant_id="d", state="succeeded", output=BODY, ended_ms=ms,
    )  # fmt: skip
    rows.add_task(row_of(done))
