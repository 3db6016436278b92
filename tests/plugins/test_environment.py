"""What a process finds in its environment, and what is never in it."""

import os
from pathlib import Path

import pytest

from apexbridge_trio.errors import ConfigInvalid
from apexbridge_trio.plugins.environment import environment
from apexbridge_trio.plugins.manifest import MAX_BYTES
from apexbridge_trio.redaction import redact


def own(tmp_path: Path, text: str) -> dict[str, str]:
    (tmp_path / "config.env").write_text(text, "utf-8")
    found = environment(tmp_path, tmp_path / "state", {})
    return {name: value for name, value in found.items() if not name.startswith(("PYTHON", "APEX", "HOME"))}


@pytest.mark.parametrize(
    ("line", "pair"),
    [
        ("A=1", {"A": "1"}),
        ("  export A = b c  ", {"A": "b c"}),
        ("A='x # y'", {"A": "x # y"}),
        ('A="x"', {"A": "x"}),
        ("A=x # a note", {"A": "x"}),
        ("A=x#y", {"A": "x#y"}),
        ("A=a=b", {"A": "a=b"}),
        ("A='x y' # a note", {"A": "x y"}),
        ('A="it\'s"  # "so"', {"A": "it's"}),
        ('A="a"b"', {"A": 'a"b'}),
        ("\ufeffA=1\r\nexport B=2\r\n", {"A": "1", "B": "2"}),
        ("A=", {"A": ""}),
        ("# A=1", {}),
        ("\n\n", {}),
    ],
)
def test_a_line_is_a_name_and_a_value(tmp_path: Path, line: str, pair: dict[str, str]) -> None:
    assert own(tmp_path, line) == pair


def test_the_state_directory_has_the_last_word(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/config.env").write_text("A=2\n")
    assert own(tmp_path, "A=1\nB=1\n") == {"A": "2", "B": "1"}


def test_only_what_is_listed_is_passed_on(tmp_path: Path) -> None:
    hub = {
        "PATH": "/bin",
        "TZ": "UTC",
        "HOME": "/root",
        "APEXBRIDGE_KEY": "k",
        "LD_PRELOAD": "x",
        "no_proxy": "*",
    }
    found = environment(tmp_path, tmp_path / "state", hub)
    assert (found["PATH"], found["TZ"], found["HOME"]) == ("/bin", "UTC", str(tmp_path / "state"))
    assert not found.keys() & {"APEXBRIDGE_KEY", "LD_PRELOAD", "no_proxy"}


def test_its_keys_are_masked_in_the_log(tmp_path: Path) -> None:
    own(tmp_path, "SONG_API_KEY=abcd-efgh-ijkl\nPLACE=somewhere-known\n")
    assert redact("abcd-efgh-ijkl at somewhere-known") == "*** at somewhere-known"


def test_what_can_not_be_read_is_said_without_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"config\.env: line 2 is not NAME=value"):
        own(tmp_path, "A=1\nsecret words\n")
    with pytest.raises(ConfigInvalid, match=r"config\.env: line 1 is not NAME=value"):
        own(tmp_path, "A=1\0\n")
    (tmp_path / "config.env").write_bytes(b"\xff")
    with pytest.raises(ConfigInvalid, match=r"config\.env: 'utf-8' codec"):
        environment(tmp_path, tmp_path / "state", {})
    (tmp_path / "config.env").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigInvalid, match=r"config\.env: larger than"):
        environment(tmp_path, tmp_path / "state", {})


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.env")
    with pytest.raises(ConfigInvalid, match=r"^config\.env: it is no file"):
        environment(tmp_path, tmp_path / "state", {})
    (tmp_path / "config.env").unlink()
    (tmp_path / "config.env").mkdir()
    with pytest.raises(ConfigInvalid, match=r"^config\.env: Is a directory$"):
        environment(tmp_path, tmp_path / "state", {})
