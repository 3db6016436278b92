"""Plugins as people meet them: asked for in a chat of a real hub, and tried on the command line."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.harness import process
from tests.plugins.folders import SHIPPED

NET_S = 120.0


def fill(folder: Path, *names: str) -> None:
    folder.mkdir()
    for name in names:
        (folder / name).write_text(name)


def allow(state: Path, folder: Path) -> None:
    """Allow one folder to be sorted, as its owner does."""
    own = state / "plugins/file_organize"
    own.mkdir(parents=True)
    (own / "config.env").write_text(f"ALLOWED_DIRECTORIES={folder}\n")


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def ask(client: httpx.AsyncClient, url: str, text: str) -> dict[str, Any]:
    reply = await client.post(
        f"{url}/v1/chat/completions", json={"messages": [{"role": "user", "content": text}]}
    )
    answer: dict[str, Any] = reply.json()
    assert answer["apex"] == {"rounds": 2}
    message: dict[str, Any] = answer["choices"][0]["message"]
    return message


async def test_the_embedded_model_calculates_and_sorts_a_folder_that_calls_back(tmp_path):
    folder = tmp_path / "Downloads"
    fill(folder, "a.jpg", "b.jpg", "c.pdf", "d")
    allow(tmp_path, folder)
    async with process.hub(tmp_path) as hub, httpx.AsyncClient(trust_env=False, timeout=NET_S) as client:
        assert (await ask(client, hub.url, "计算 (3+4)×2"))["content"] == "(3 + 4) × 2 = 14"
        sorted_ = await ask(client, hub.url, "Please sort the Downloads folder by kind.")
    assert sorted_["content"] == (
        "Downloads is sorted: 4 files moved (1 to Documents, 2 to Images, 1 to Others)."
    )
    assert names_in(folder) == ["Documents/c.pdf", "Images/a.jpg", "Images/b.jpg", "Others/d"]
    said = hub.said.decode()
    assert re.findall(r"callback=(\w+)", said) == ["progress"] * 4 + ["accepted"]
    (result,) = (tmp_path / "async_results/file_organize").iterdir()
    assert json.loads(result.read_text("utf-8"))["output"]["moved"] == 4
    assert "apx_cb_" not in said


# One call of each plugin that comes with the hub, and what its result holds.
CALLS = [
    ("agenda.agenda_list", {"date": "2026-11-25"}, {"first": "2026-11-25", "count": 0}),
    ("calculator", {"expression": "15% of 240"}, {"result": "36"}),
    ("clock", {"zone": "UTC"}, {"utc_offset": "+0000"}),
    ("file_organize", {"directory": "Downloads", "dry_run": True}, {"moved": 1, "dry_run": True}),
    ("household.household_remember", {"note": "bins on Tuesday"}, {"remembered": "bins on Tuesday"}),
]


def test_the_table_has_every_shipped_plugin_that_needs_neither_the_internet_nor_a_hub():
    shipped = {file.parent.name for file in SHIPPED.glob("*/plugin.toml")}
    assert shipped == {"web_fetch", "reminder", *(name.partition(".")[0] for name, _, _ in CALLS)}


@pytest.mark.parametrize(("tool", "arguments", "holds"), CALLS, ids=[name for name, _, _ in CALLS])
async def test_each_shipped_plugin_can_be_called(tmp_path, tool, arguments, holds):
    fill(tmp_path / "Downloads", "a.jpg")
    allow(tmp_path, tmp_path / "Downloads")
    with trio.fail_after(NET_S):
        out = await process.command("plugins", "call", tool, json.dumps(arguments), "--state", str(tmp_path))
    assert holds.items() <= json.loads(out).items()


async def test_the_web_is_fetched_from_nowhere_near(tmp_path):
    own = tmp_path / "plugins/web_fetch"
    own.mkdir(parents=True)
    (own / "config.env").write_text("HOSTS=localhost\n")
    words = ["plugins", "call", "web_fetch", '{"url": "http://localhost/"}', "--state", str(tmp_path)]
    with trio.fail_after(NET_S):
        done = await trio.run_process(
            [process.PYTHON, "-m", "apexbridge_trio", *words],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            cwd=process.ROOT,
        )
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"private address" in done.stderr
