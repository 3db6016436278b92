"""A store that is damaged in many ways: the start says so, changes nothing, and never begins an empty one."""

import math
import os
import random
from pathlib import Path

import pytest

from apexbridge_trio.errors import StoreUnusable
from apexbridge_trio.results import FOLDER
from apexbridge_trio.store import FILE, RESTORING, Store
from tests.test_store import record

KEYS = 300


def furnish(state: Path) -> Path:
    """Leave what a hub leaves: a file of many pages, and the folder of results."""
    with Store(state) as store:
        for number in range(KEYS):
            store.add_key(record(f"key-{number:04}", name="n" * 150))
    (state / FOLDER).mkdir()
    return state / FILE


def start(state: Path, check_s: float = math.inf) -> list[str]:
    """Open the store as a start does that has all the time it needs, and read all of it."""
    with Store(state, check_s=check_s, was_used=(state / FOLDER).is_dir()) as store:
        kept = store.keys()
    return [one.id for one in kept]


def cut(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share))


def write(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


DAMAGE = {
    "half of it": lambda path: cut(path, 0.5),
    "its first page alone": lambda path: os.truncate(path, 4096),
    "no page at all": lambda path: os.truncate(path, 0),
    "another magic": lambda path: write(path, 0, b"not SQLite at all"),
    "a header of garbage": lambda path: write(path, 16, b"\xff" * 84),
    "a page of zeros": lambda path: write(path, 4096, bytes(4096)),
    "a page of garbage": lambda path: write(path, 8192, random.Random(1).randbytes(4096)),
    "all of it zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_said_with_what_to_do_and_nothing_is_changed(tmp_path: Path, damage) -> None:
    path = furnish(tmp_path)
    damage(path)
    left = path.read_bytes() if path.exists() else None
    with pytest.raises(StoreUnusable, match="apexbridge restore FILE"):
        start(tmp_path)
    assert (path.read_bytes() if path.exists() else None) == left


def test_bits_that_flip_are_found_or_change_nothing(tmp_path: Path) -> None:
    """What no structure holds (the text of a name) no check can know: the keys are all there even then."""
    path = furnish(tmp_path)
    whole, chance, found = path.read_bytes(), random.Random(6), 0
    for _ in range(150):
        flipped = bytearray(whole)
        flipped[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        try:
            assert len(start(tmp_path)) == KEYS
        except StoreUnusable:
            found += 1
    assert found > 0


def test_a_log_of_garbage_is_left_out(tmp_path: Path) -> None:
    """SQLite's log is good up to its first wrong sum; a hub that was killed leaves such an end."""
    path = furnish(tmp_path)
    Path(f"{path}-wal").write_bytes(random.Random(3).randbytes(50_000))
    assert len(start(tmp_path)) == KEYS


def test_a_log_that_is_gone_leaves_what_was_in_the_file(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with Store(tmp_path) as store:
        store.add_key(record())
        for name in (FILE, f"{FILE}-wal"):
            (other / name).write_bytes((tmp_path / name).read_bytes())
    (other / f"{FILE}-wal").unlink()
    # The tables are in the file from its first moment on, so it is never taken for a new one.
    assert start(other) == []
    assert (other / FILE).stat().st_size > 4096


def test_the_check_ends_with_its_time(tmp_path: Path) -> None:
    path = furnish(tmp_path)
    write(path, path.stat().st_size - 4096, b"\xff" * 4096)
    with Store(tmp_path, check_s=1e-9):
        pass  # the damage was not reached; that is what the time costs


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    furnish(tmp_path).chmod(0)
    with pytest.raises(StoreUnusable, match="must be able to write there"):
        start(tmp_path)


def test_a_restore_that_was_cut_short_is_not_opened(tmp_path: Path) -> None:
    furnish(tmp_path)
    (tmp_path / RESTORING).mkdir()
    with pytest.raises(StoreUnusable, match="a restore has begun"):
        start(tmp_path)
