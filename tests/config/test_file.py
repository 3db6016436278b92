"""A write is whole or not at all, keeps mode and link, and never wins over an edit by hand."""

import errno
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from apexbridge_trio import log
from apexbridge_trio.config import ConfigFile
from apexbridge_trio.config.file import HEAD
from apexbridge_trio.config.load import MAX_FILE_BYTES
from apexbridge_trio.errors import (
    ApexError,
    BodyTooLarge,
    ConfigInvalid,
    ConfigReadOnly,
    ConfigStale,
    ConfigUnwritable,
)

ONE, TWO = "[chat]\nmax_rounds = 1\n", "[chat]\nmax_rounds = 2\n"


def place(folder: Path, text: str | None = ONE) -> ConfigFile:
    if text is not None:
        (folder / "config.toml").write_text(text)
    return ConfigFile(None, folder, {}, etc=folder / "etc")


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o664])
def test_the_mode_stays(mode: int, tmp_path: Path) -> None:
    file = place(tmp_path)
    (tmp_path / "config.toml").chmod(mode)
    after = file.write(file.read(), TWO)
    assert (after.text, file.read()) == (TWO, after)
    assert (tmp_path / "config.toml").stat().st_mode & 0o777 == mode
    assert names(tmp_path) == ["config.toml"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_the_owner_stays(tmp_path: Path) -> None:
    file = place(tmp_path)
    os.chown(tmp_path / "config.toml", 12345, 12346)
    file.write(file.read(), TWO)
    found = (tmp_path / "config.toml").stat()
    assert (found.st_uid, found.st_gid) == (12345, 12346)


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "house.toml").write_text(ONE)
    (tmp_path / "config.toml").symlink_to("real/house.toml")
    file = place(tmp_path, None)
    file.write(file.read(), TWO)
    assert (tmp_path / "config.toml").is_symlink()
    assert (tmp_path / "real" / "house.toml").read_text() == TWO
    assert names(tmp_path / "real") == ["house.toml"]


def test_who_else_may_write_it_stays(tmp_path: Path) -> None:
    """An access list, as `setfacl -m u:12345:rw` makes it, and a note of the user's."""
    file = place(tmp_path)
    # acl(5), as the kernel has it: user::rw- user:12345:rw- group::r-- mask::rw- other::---
    entries = [(0x01, 6, -1), (0x02, 6, 12345), (0x04, 4, -1), (0x10, 6, -1), (0x20, 0, -1)]
    attributes = {
        "system.posix_acl_access": struct.pack("<I", 2)
        + b"".join(struct.pack("<HHi", *one) for one in entries),
        "user.note": b"mine",
    }
    for name, value in attributes.items():
        os.setxattr(tmp_path / "config.toml", name, value)
    file.write(file.read(), TWO)
    target = tmp_path / "config.toml"
    assert {name: os.getxattr(target, name) for name in os.listxattr(target)} == attributes
    assert (target.stat().st_mode & 0o777, target.read_text()) == (0o660, TWO)


def test_a_file_with_two_names_is_not_parted(tmp_path: Path) -> None:
    file = place(tmp_path)
    other = tmp_path / "other.toml"
    other.hardlink_to(tmp_path / "config.toml")
    with pytest.raises(ConfigReadOnly, match="another name as well"):
        file.write(file.read(), TWO)
    assert other.samefile(tmp_path / "config.toml")
    assert (other.read_text(), names(tmp_path)) == (ONE, ["config.toml", "other.toml"])
    other.unlink()
    assert file.write(file.read(), TWO).text == TWO


def test_a_file_that_is_made_again_has_its_head_once(tmp_path: Path) -> None:
    file = place(tmp_path, None)
    file.write(file.read(), HEAD + TWO)
    assert file.read().text == HEAD + TWO


def test_a_byte_order_mark_stays(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xef\xbb\xbf" + ONE.encode())
    file = place(tmp_path, None)
    assert file.read().text == ONE
    file.write(file.read(), TWO)
    assert (tmp_path / "config.toml").read_bytes() == b"\xef\xbb\xbf" + TWO.encode()


def test_without_a_file_one_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    file = place(tmp_path, None)
    before = file.read()
    assert (before.path, before.text) == (None, "")
    file.write(before, TWO)
    assert (tmp_path / "config.toml").read_text() == HEAD + TWO
    assert (tmp_path / "config.toml").stat().st_mode & 0o777 == 0o600


def test_an_edit_by_hand_is_never_lost(tmp_path: Path) -> None:
    file = place(tmp_path)
    before = file.read()
    (tmp_path / "config.toml").write_text("# by hand\n")
    with pytest.raises(ConfigStale):
        file.write(before, TWO)
    assert (names(tmp_path), file.read().text) == (["config.toml"], "# by hand\n")


def test_a_file_that_came_or_went_meanwhile_is_an_edit_too(tmp_path: Path) -> None:
    file = place(tmp_path, None)
    nothing = file.read()
    (tmp_path / "config.toml").write_text("")
    with pytest.raises(ConfigStale):
        file.write(nothing, TWO)
    before = file.read()
    (tmp_path / "config.toml").unlink()
    with pytest.raises(ConfigUnwritable):
        file.write(before, TWO)
    assert names(tmp_path) == []


def test_a_file_without_a_write_bit_is_not_written_even_by_root(tmp_path: Path) -> None:
    file = place(tmp_path)
    (tmp_path / "config.toml").chmod(0o444)
    with pytest.raises(ConfigReadOnly, match="may not be written") as told:
        file.write(file.read(), TWO)
    assert (told.value.status, str(tmp_path) in told.value.message) == (409, False)
    assert (names(tmp_path), file.read().text) == (["config.toml"], ONE)


@pytest.mark.parametrize(
    ("call", "number", "kind"),
    [
        ("fsync", errno.ENOSPC, ConfigUnwritable),
        ("fsync", errno.EIO, ConfigUnwritable),
        ("replace", errno.EROFS, ConfigReadOnly),
        ("replace", errno.EBUSY, ConfigReadOnly),
        ("open", errno.EACCES, ConfigReadOnly),
        ("fchmod", errno.EPERM, ConfigReadOnly),
    ],
)
def test_whatever_the_disk_refuses_the_file_is_as_it_was(
    call: str, number: int, kind: type[ApexError], tmp_path: Path, monkeypatch: Any
) -> None:
    file = place(tmp_path)
    before = file.read()

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number), "/a/path/of/the/machine")

    with monkeypatch.context() as patched:
        patched.setattr(Path if call == "replace" else os, call, refuse)
        with pytest.raises(kind) as told:
            file.write(before, TWO)
    assert "/a/path" not in told.value.message
    assert (names(tmp_path), file.read()) == (["config.toml"], before)


def test_a_folder_that_can_not_be_synced_takes_nothing_back(tmp_path: Path, monkeypatch: Any) -> None:
    file = place(tmp_path)
    real = os.fsync
    done: list[object] = []

    def sync(descriptor: int) -> None:
        if done:
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)
        done.append(None)

    monkeypatch.setattr(os, "fsync", sync)
    with log.capture() as lines:
        assert file.write(file.read(), TWO).text == TWO
    assert [line["event"] for line in lines] == ["the folder of the config could not be synced"]
    assert file.read().text == TWO


def test_what_a_killed_hub_left_is_in_nobodys_way(tmp_path: Path) -> None:
    file = place(tmp_path)
    (tmp_path / ".config.toml.new").write_text("half of")
    file.write(file.read(), TWO)
    assert (names(tmp_path), file.read().text) == (["config.toml"], TWO)


def test_a_link_in_the_place_of_the_new_file_is_not_followed(tmp_path: Path) -> None:
    file = place(tmp_path)
    (tmp_path / "precious").write_text("precious")
    (tmp_path / ".config.toml.new").symlink_to("precious")
    file.write(file.read(), TWO)
    assert (tmp_path / "precious").read_text() == "precious"


def test_sizes_are_bounded_both_ways(tmp_path: Path) -> None:
    file = place(tmp_path)
    with pytest.raises(BodyTooLarge):
        file.write(file.read(), "#" * (MAX_FILE_BYTES + 1))
    (tmp_path / "config.toml").write_text("#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(ConfigInvalid, match="larger than"):
        file.read()


def test_the_state_directory_comes_before_the_machines(tmp_path: Path) -> None:
    file = place(tmp_path, None)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "config.toml").write_text(ONE)
    first = file.signature()
    assert file.path == tmp_path / "etc" / "config.toml"
    place(tmp_path, TWO)
    assert (file.path, file.read().text) == (tmp_path / "config.toml", TWO)
    assert file.signature() != first


def test_the_signature_is_another_with_each_change(tmp_path: Path) -> None:
    file = place(tmp_path)
    seen = {file.signature()}
    file.write(file.read(), TWO)
    seen.add(file.signature())
    (tmp_path / "config.toml").chmod(0o600)
    (tmp_path / "config.toml").unlink()
    seen.add(file.signature())
    option = ConfigFile(tmp_path / "config.toml", tmp_path, {})
    seen.add(option.signature())
    assert len(seen) == 4
