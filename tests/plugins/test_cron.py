"""Cron lines, at times that are arguments."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from apexbridge_trio.errors import ConfigInvalid
from apexbridge_trio.plugins.cron import Cron

BERLIN = ZoneInfo("Europe/Berlin")
# A Sunday.
NOW = datetime(2026, 11, 22, 8, 30, 15, tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("line", "due"),
    [
        ("* * * * *", "2026-11-22T08:31"),
        ("30 8 * * *", "2026-11-23T08:30"),
        ("*/20 * * * *", "2026-11-22T08:40"),
        ("5/30 * * * *", "2026-11-22T08:35"),
        ("0 */6 * * *", "2026-11-22T12:00"),
        ("0 9-17/4,20 * * *", "2026-11-22T09:00"),
        ("0 7 * * 1", "2026-11-23T07:00"),
        ("0 7 * * 7", "2026-11-29T07:00"),
        ("0 0 1 1 *", "2027-01-01T00:00"),
        ("0 0 24 * 6", "2026-11-24T00:00"),
        ("0 0 29 2 *", "2028-02-29T00:00"),
    ],
)
def test_it_falls_due(line: str, due: str) -> None:
    assert NOW + timedelta(seconds=Cron.read(line).delay(NOW)) == datetime.fromisoformat(due).replace(
        tzinfo=BERLIN
    )


def test_a_day_of_23_hours_is_waited_for_23_hours() -> None:
    eve = datetime(2026, 3, 28, 12, 0, tzinfo=BERLIN)
    assert Cron.read("0 12 * * *").delay(eve) == 23 * 3600


@pytest.mark.parametrize(
    "line", ["", "* * * *", "60 * * * *", "x * * * *", "*/0 * * * *", "5-1 * * * *", "* * 0 * *", "@daily"]
)
def test_what_is_no_cron_line_is_said(line: str) -> None:
    with pytest.raises(ConfigInvalid):
        Cron.read(line)


def test_one_that_never_falls_due_is_said() -> None:
    with pytest.raises(ConfigInvalid, match="never"):
        Cron.read("0 0 30 2 *").delay(NOW)
