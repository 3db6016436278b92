"""The machine's time zone."""

from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import TZPATH, ZoneInfo

import pytest

from apexbridge_trio.plugins import machine_zone

BERLIN = Path(TZPATH[0]) / "Europe/Berlin"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Asia/Tokyo", "Asia/Tokyo"),
        (":Asia/Tokyo", "Asia/Tokyo"),
        ("", "UTC"),
        ("../x", "UTC"),
        ("AB1CD2", "UTC"),
    ],
)
def test_the_environment_comes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, key: str
) -> None:
    monkeypatch.setenv("TZ", name)
    assert machine_zone(tmp_path / "missing").key == key


def test_the_link_of_the_machine_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TZ", raising=False)
    zone = tmp_path / "zoneinfo/Europe/Berlin"
    zone.parent.mkdir(parents=True)
    zone.touch()
    (tmp_path / "localtime").symlink_to(zone)
    assert machine_zone(tmp_path / "localtime") == ZoneInfo("Europe/Berlin")


@pytest.mark.skipif(not BERLIN.exists(), reason="no zone files on this machine")
def test_a_copied_file_still_has_the_hours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TZ", raising=False)
    (tmp_path / "localtime").write_bytes(BERLIN.read_bytes())
    zone = machine_zone(tmp_path / "localtime")
    assert zone.key is None
    assert zone.utcoffset(datetime(2026, 7, 1)) == timedelta(hours=2)  # noqa: DTZ001 - wall time
