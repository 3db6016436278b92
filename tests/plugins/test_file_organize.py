"""Sorting a folder: as its own process, with a hub that takes callbacks from a script."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.hub import Exchange, FakeHub, Reply
from tests.plugins.folders import SHIPPED

ENTRY = SHIPPED / "file_organize/file_organize.py"
NET_S = 30
TAKEN = Reply({"status": "success"})


class OneAnswer(dict[str, Any]):
    """Answers every path in the same way: the task's id is the plugin's to choose."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def get(self, key: str, default: Any = None) -> Any:
        return self.answer


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        hub.answers = OneAnswer(TAKEN)
        yield hub


@pytest.fixture
def box(tmp_path: Path) -> Path:
    box = tmp_path / "Downloads"
    box.mkdir()
    return box


def fill(box: Path, *names: str) -> None:
    for name in names:
        (box / name).write_text(name)
        os.utime(box / name, (1_779_000_000, 1_779_000_000))  # in May 2026


def tree(box: Path) -> dict[str, str]:
    return {str(path.relative_to(box)): path.read_text() for path in box.rglob("*") if path.is_file()}


def begin(hub: FakeHub, box: Path | None, **arguments: Any) -> subprocess.Popen[bytes]:
    env = {
        "PATH": os.environ["PATH"],
        "CALLBACK_BASE_URL": f"{hub.url}/plugin-callback/~token",
        "PLUGIN_NAME_FOR_CALLBACK": "file_organize",
        "HTTP_PROXY": "http://127.0.0.1:1",
    }
    if box is not None:
        env["ALLOWED_DIRECTORIES"] = f"/nowhere:{box}"
    started = subprocess.Popen(
        [sys.executable, str(ENTRY)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
    )
    assert started.stdin is not None
    started.stdin.write(json.dumps(arguments).encode())
    started.stdin.close()
    started.stdin = None
    return started


def run(hub: FakeHub, box: Path | None, **arguments: Any) -> dict[str, Any]:
    out, _ = begin(hub, box, **arguments).communicate(timeout=NET_S)
    answered: dict[str, Any] = json.loads(out)
    return answered


def result_of(hub: FakeHub) -> dict[str, Any]:
    *_, last = hub.asked
    assert last.body["status"] == "success"
    output: dict[str, Any] = last.body["output"]
    return output


def test_it_sorts_by_kind_and_tells_the_way_and_the_end(hub: FakeHub, box: Path) -> None:
    fill(box, "a.jpg", "b.PDF", "c", "照片.png", ".hidden", "film.mkv.part")
    (box / "d.zip").symlink_to(box / "a.jpg")
    (box / "folder.jpg").mkdir()
    answered = run(hub, box, directory="downloads")
    assert answered["status"] == "pending"
    places = {f"/plugin-callback/~token/file_organize/{answered['taskId']}"}
    assert {asked.path for asked in hub.asked} == places
    assert [asked.body.get("progress") for asked in hub.asked] == [0.25, 0.5, 0.75, 1.0, None]
    output = result_of(hub)
    assert output["summary"] == "Downloads: 4 moved (1 to Documents, 2 to Images, 1 to Others)"
    assert {"path": "Images/照片.png", "from": "照片.png"} in output["details"]
    assert {name for name in tree(box) if "/" in name} == {
        "Images/a.jpg",
        "Images/照片.png",
        "Documents/b.PDF",
        "Others/c",
    }
    assert {".hidden", "film.mkv.part"} <= tree(box).keys()
    assert (box / "d.zip").is_symlink()
    assert (box / "folder.jpg").is_dir()


def test_it_sorts_by_month_inside_a_folder_below(hub: FakeHub, box: Path) -> None:
    (box / "deep").mkdir()
    fill(box / "deep", "a.jpg", "b.pdf")
    run(hub, box, directory=str(box / "deep"), by="date")
    assert tree(box).keys() == {"deep/2026-05/a.jpg", "deep/2026-05/b.pdf"}


def test_a_dry_run_says_it_all_and_moves_nothing(hub: FakeHub, box: Path) -> None:
    fill(box, "a.jpg", "b.pdf")
    run(hub, box, directory="Downloads", dry_run=True)
    assert tree(box).keys() == {"a.jpg", "b.pdf"}
    assert not (box / "Images").exists()
    output = result_of(hub)
    assert output["summary"] == "Downloads: 2 would be moved (1 to Documents, 1 to Images)"
    assert output["dry_run"] is True


def test_nothing_is_written_over(hub: FakeHub, box: Path) -> None:
    for name in ("Images", "Documents"):
        (box / name).mkdir()
    fill(box / "Images", "a.jpg", "a (2).jpg")
    fill(box, "a.jpg")
    before = sorted(tree(box).values())
    run(hub, box, directory="Downloads")
    assert tree(box).keys() == {"Images/a.jpg", "Images/a (2).jpg", "Images/a (3).jpg"}
    assert sorted(tree(box).values()) == before


@pytest.mark.parametrize("in_the_way", ["pipe", "link"])
def test_what_stands_in_the_way_keeps_its_files_and_the_others_go_on(
    hub: FakeHub, box: Path, tmp_path: Path, in_the_way: str
) -> None:
    fill(box, "a.jpg", "b.pdf")
    if in_the_way == "pipe":
        os.mkfifo(box / "Images")
    else:
        (box / "Images").symlink_to(tmp_path)
    run(hub, box, directory="Downloads")
    output = result_of(hub)
    assert [one["path"] for one in output["kept"]] == ["a.jpg"]
    assert (box / "a.jpg").read_text() == "a.jpg"
    assert (box / "Documents/b.pdf").is_file()
    assert output["summary"].endswith("; 1 not moved")


@pytest.mark.parametrize(
    "asked", ["/etc", "../../etc", "", ".", "nowhere", "{box}/..", "{box}/out", "{box}/no"]
)
def test_only_what_is_allowed_is_sorted(hub: FakeHub, box: Path, tmp_path: Path, asked: str) -> None:
    fill(tmp_path, "a.jpg")
    (box / "out").symlink_to(tmp_path)
    answered = run(hub, box, directory=asked.format(box=box))
    assert answered == {
        "status": "error",
        "error": "only these folders may be sorted: Downloads / 只能整理这些文件夹：Downloads",
    }
    assert hub.asked == []
    assert (tmp_path / "a.jpg").is_file()


def test_without_a_config_it_says_what_to_write(hub: FakeHub) -> None:
    told = run(hub, None, directory="/tmp")["error"]
    assert "ALLOWED_DIRECTORIES=" in told
    assert "还没有可以整理的文件夹" in told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_cut_short_each_file_is_moved_or_not(hub: FakeHub, box: Path, number: int) -> None:
    names = [f"{count}.jpg" for count in range(40)]
    fill(box, *names)
    goes_on = threading.Event()

    def hold(exchange: Exchange) -> None:
        assert goes_on.wait(NET_S)
        exchange.close_connection = True

    hub.answers = OneAnswer(hold)
    started = begin(hub, box, directory="Downloads")
    assert hub.begun.wait(NET_S)
    started.send_signal(number)
    started.communicate(timeout=NET_S)
    goes_on.set()
    assert started.returncode == -number
    left = tree(box)
    assert sorted(left.values()) == sorted(names)
    assert len(left) == 40
    assert sum("/" in name for name in left) == 4
    hub.answers = OneAnswer(TAKEN)
    run(hub, box, directory="Downloads")
    assert sorted(tree(box)) == sorted(f"Images/{name}" for name in names)


def test_the_result_is_brought_again_while_the_hub_is_away(hub: FakeHub, box: Path) -> None:
    fill(box, "a.jpg")
    answers = [TAKEN, Reply({}, 503), Reply(b"", 429), TAKEN]
    hub.answers = OneAnswer(answers)
    run(hub, box, directory="Downloads")
    assert [asked.body["status"] for asked in hub.asked] == ["progress", "success", "success", "success"]
    assert answers == []


def test_a_task_that_was_withdrawn_is_not_told_again(hub: FakeHub, box: Path) -> None:
    fill(box, "a.jpg")
    hub.answers = OneAnswer(Reply({}, 410))
    run(hub, box, directory="Downloads")
    assert len(hub.asked) == 2


def test_an_empty_folder_has_an_end_too(hub: FakeHub, box: Path) -> None:
    run(hub, box, directory="Downloads")
    assert result_of(hub)["summary"] == "Downloads: 0 moved"
