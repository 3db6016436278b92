"""Sorting a folder, asked for in sentences; the run itself is in the e2e tests."""

from pathlib import Path
from typing import Any

import pytest

from tests.test_intents import Home

RESULT: dict[str, Any] = {
    "directory": "下载",
    "moved": 3,
    "folders": {"Documents": 1, "Images": 2},
    "dry_run": False,
    "details": [],
    "kept": [{"path": "a", "reason": "b"}],
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.mark.parametrize(
    ("said", "arguments"),
    [
        ("按类型整理下载文件夹", {"directory": "下载", "by": "kind"}),
        ("请把下载文件夹里的文件按日期整理好", {"directory": "下载", "by": "date"}),
        ("整理一下“照片 2026”目录", {"directory": "照片 2026"}),
        ("把桌面里的文件归类", {"directory": "桌面"}),
        ("试着整理下载文件夹", {"directory": "下载", "dry_run": True}),
        ("Sort the Downloads folder by kind.", {"directory": "Downloads", "by": "kind"}),
        ("Could you please tidy up my Downloads folder?", {"directory": "Downloads"}),
        ("organize all the files in my Desktop by month", {"directory": "Desktop", "by": "date"}),
        ("sort the folder /srv/share/in-box by type", {"directory": "/srv/share/in-box", "by": "kind"}),
        ("Try to sort the Downloads folder", {"directory": "Downloads", "dry_run": True}),
    ],
)
async def test_what_is_said_is_understood(home: Home, said: str, arguments: Any) -> None:
    assert await home.call(said) == ("file_organize", arguments)


@pytest.mark.parametrize(
    ("said", "result", "answer"),
    [
        (
            "整理下载文件夹",
            RESULT,
            "“下载”已整理，移动了 3 个文件：Documents 1 个、Images 2 个。有 1 个文件没有移动。",
        ),
        ("整理下载文件夹", {"status": "pending", "taskId": "t"}, "下载正在整理，完成后会告诉你。"),
        (
            "试着整理下载文件夹",
            RESULT | {"dry_run": True},
            "“下载”会移动 3 个文件：Documents 1 个、Images 2 个。还没有动任何文件。",
        ),
        (
            "Sort the Downloads folder",
            RESULT,
            "下载 is sorted: 3 files moved (1 to Documents, 2 to Images). 1 could not be moved.",
        ),
        (
            "Sort the Downloads folder",
            RESULT | {"moved": 0, "folders": {}, "kept": []},
            "There is nothing to sort in 下载.",
        ),
        (
            "Try to sort the Downloads folder",
            RESULT | {"moved": 1, "folders": {"Images": 1}},
            "In 下载, 1 file would be moved (1 to Images). Nothing was touched.",
        ),
    ],
)
async def test_the_result_is_worded(home: Home, said: str, result: Any, answer: str) -> None:
    assert await home.told(said, result, "file_organize") == answer
