"""Archives that are cut short, damaged or forged: all are refused before anything is touched."""

import json
import random
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZipFile, ZipInfo

import pytest

from apexbridge_trio.backup import open_backup, stage
from apexbridge_trio.backup import reading as reading_room
from apexbridge_trio.errors import BackupUnusable, StoreUnusable
from apexbridge_trio.store import FILE, NEWEST
from tests.backup.furnished import backed_up, furnish


def entries_of(path: Path) -> dict[str, bytes]:
    with ZipFile(path) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def forge(
    path: Path, entries: dict[str, bytes], change: Callable[[dict[str, Any]], None] | None = None
) -> Path:
    """Write an archive of these files, with a manifest that fits them until `change` has had it."""
    manifest = json.loads(entries.pop("manifest.json"))
    manifest["files"] = [
        {"path": name, "size": len(content), "sha256": sha256(content).hexdigest()}
        for name, content in entries.items()
    ]
    if change is not None:
        change(manifest)
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(ZipInfo(name), content)
        archive.writestr("manifest.json", json.dumps(manifest))
    return path


@pytest.fixture
def good(tmp_path: Path) -> Path:
    backed_up(furnish(tmp_path / "from"), tmp_path / "good")
    (tmp_path / "into").mkdir()
    return tmp_path / "good"


def refused(archive: Path, match: str | None = None) -> None:
    """Have a restore refused, and see that nothing is left of it."""
    into = archive.parent / "into"
    before = sorted(into.rglob("*"))
    with pytest.raises((BackupUnusable, StoreUnusable), match=match), open_backup(archive) as opened:
        stage(opened, into, force=True)
    assert sorted(into.rglob("*")) == before
    assert not (archive.parent / "escaped").exists()


def test_a_forged_archive_that_is_right_is_taken(good: Path) -> None:
    """So that what follows is refused for its own reason."""
    with open_backup(forge(good, entries_of(good))) as opened:
        stage(opened, good.parent / "into", force=True)


@pytest.mark.parametrize(
    "name",
    ["../escaped", "plugins/../../escaped", "/tmp/escaped", "hub.lock", "restore.applying/x", "a\\..\\b"],
)
def test_a_path_that_leads_elsewhere(good: Path, name: str) -> None:
    refused(forge(good, entries_of(good) | {name: b"x"}), "may not be in it")


def test_a_link(good: Path) -> None:
    """What an entry says that it is does not count: it would be a plain file; here its text is not that."""
    entries = entries_of(good)
    link = ZipInfo("plugins/out")
    link.external_attr = 0o120777 << 16
    manifest = json.loads(entries["manifest.json"])
    content = b"/etc"
    manifest["files"].append({"path": "plugins/out", "size": 4, "sha256": sha256(content).hexdigest()})
    with ZipFile(good, "w") as archive:
        for name, inner in entries.items():
            if name != "manifest.json":
                archive.writestr(ZipInfo(name), inner)
        archive.writestr(link, content)
        archive.writestr("manifest.json", json.dumps(manifest))
    with open_backup(good) as opened:
        staged = stage(opened, good.parent / "into", force=True)
    assert not (staged / "plugins/out").is_symlink()
    assert (staged / "plugins/out").read_bytes() == content


def test_a_file_that_is_the_folder_of_another_one(good: Path) -> None:
    refused(forge(good, entries_of(good) | {"plugins/a": b"x", "plugins/a/b": b"y"}), "is the folder of")


def test_two_files_of_one_name(good: Path) -> None:
    with ZipFile(good, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("config.toml", b"another")
    refused(good, "two files of one name")


def test_a_folder(good: Path) -> None:
    refused(forge(good, entries_of(good) | {"plugins/a/": b""}), "may not be in it")


def test_a_member_that_is_larger_than_the_disk(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = entries_of(good) | {"plugins/huge": bytes(50_000_000)}
    monkeypatch.setattr(reading_room, "_SPARE", 1 << 50)
    refused(forge(good, entries), "MB are free")


@pytest.mark.parametrize("size", [3, 10**15, -1, 0])
def test_a_size_that_is_a_lie(good: Path, size: int) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["files"][-1]["size"] = size

    refused(forge(good, entries_of(good), change), "not those of its manifest")


def test_a_hash_that_is_another_ones(good: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["files"][1]["sha256"] = "0" * 64

    refused(forge(good, entries_of(good), change), "in it is damaged")


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("schema", NEWEST + 1, "of a newer hub"),
        ("schema", NEWEST - 1, "another version than its manifest"),
        ("schema", "5", "no manifest that can be read"),
        ("format", 2, "form 2"),
        ("format", None, "no manifest that can be read"),
        ("files", {}, "no manifest that can be read"),
        ("files", [], "not those of its manifest"),
    ],
)
def test_a_manifest_of_another_time_or_kind(good: Path, field: str, value: Any, match: str) -> None:
    refused(forge(good, entries_of(good), lambda manifest: manifest.update({field: value})), match)


def test_a_manifest_that_is_no_json(good: Path) -> None:
    with ZipFile(good, "w") as archive:
        archive.writestr("manifest.json", b"[" * 100_000)
    refused(good, "no manifest that can be read")


def test_a_manifest_that_is_too_large(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_room, "MOST_BYTES", 100)
    refused(good, "manifest is too large")


def test_more_files_than_a_house_has(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_room, "MOST_FILES", 3)
    refused(good, "more than 3 files")


def test_no_database_or_one_that_is_damaged(good: Path) -> None:
    entries = entries_of(good)
    broken = dict(entries)
    broken[FILE] = entries[FILE][:4096] + b"\xff" * 4096 + entries[FILE][8192:]
    refused(forge(good, broken), "damaged")
    del entries[FILE]
    refused(forge(good, entries), "no database")


def test_a_way_of_packing_that_is_not_ours(good: Path) -> None:
    entries = entries_of(good)
    with ZipFile(good, "w", ZIP_BZIP2) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    refused(good, "may not be in it")


@pytest.mark.parametrize("content", [b"", b"PK", b"not a backup" * 1000, bytes(100_000)])
def test_no_archive_at_all(good: Path, content: bytes) -> None:
    good.write_bytes(content)
    refused(good, "damaged or cut short")


def test_no_file_or_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(BackupUnusable, match="can not read"), open_backup(path):
            pass


def test_cut_short_at_any_byte(good: Path) -> None:
    whole = good.read_bytes()
    for length in random.Random(5).sample(range(len(whole)), 60):
        good.write_bytes(whole[:length])
        refused(good)


def test_a_directory_that_lies_of_where_it_is(good: Path) -> None:
    """`zipfile` corrects all places by it, and looks for a file before the beginning."""
    whole = bytearray(good.read_bytes())
    place = whole.rindex(b"PK\x05\x06") + 16
    offset = int.from_bytes(whole[place : place + 4], "little")
    whole[place : place + 4] = (offset + 100_000).to_bytes(4, "little")
    good.write_bytes(whole)
    refused(good, "damaged or cut short")


def test_any_bit_that_flips_is_found_or_changes_nothing(good: Path) -> None:
    whole, files, chance, found = good.read_bytes(), entries_of(good), random.Random(8), 0
    for _ in range(300):
        flipped = bytearray(whole)
        flipped[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        good.write_bytes(flipped)
        try:
            with open_backup(good) as opened:
                opened.verify()
        except BackupUnusable:
            found += 1
        else:  # a time, a version, a mode: what no file is made of
            assert entries_of(good) == files
    assert found > 200
