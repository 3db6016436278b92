"""The clock."""

from pathlib import Path

import pytest

from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.plugins import Tool
from tests.plugins.folders import SHIPPED, call_tool, load


@pytest.fixture
def clock(tmp_path: Path) -> Tool:
    return load(SHIPPED, state=tmp_path).tools["clock_now"]


async def test_it_tells_the_time_at_home(clock: Tool) -> None:
    assert await call_tool(clock, {}) == {
        "zone": "Asia/Shanghai",
        "date": "2026-11-22",
        "time": "08:00",
        "weekday": "Sunday",
        "utc_offset": "+0800",
    }


@pytest.mark.parametrize(
    ("asked", "zone", "time", "weekday"),
    [
        ("America/New_York", "America/New_York", "19:00", "Saturday"),
        ("america/new_york", "America/New_York", "19:00", "Saturday"),
        ("new york", "America/New_York", "19:00", "Saturday"),
        ("Berlin", "Europe/Berlin", "01:00", "Sunday"),
        ("UTC", "UTC", "00:00", "Sunday"),
    ],
)
async def test_it_finds_a_zone_by_name_or_city(
    clock: Tool, asked: str, zone: str, time: str, weekday: str
) -> None:
    told = await call_tool(clock, {"zone": asked})
    assert (told["zone"], told["time"], told["weekday"]) == (zone, time, weekday)


@pytest.mark.parametrize("asked", ["../../etc/passwd", "/etc/passwd", "Atlantis"])
async def test_what_is_no_zone_is_said_so(clock: Tool, asked: object) -> None:
    with pytest.raises(ToolFailed, match="no time zone"):
        await call_tool(clock, {"zone": asked})


async def test_it_names_near_zones(clock: Tool) -> None:
    with pytest.raises(ToolFailed, match=r"near: .*Asia/Tokyo"):
        await call_tool(clock, {"zone": "Asia/Tokio"})
