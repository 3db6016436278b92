"""Result files: whole or not there, and never outside their folder."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbridge_trio.errors import BadRequest
from apexbridge_trio.results import Results, is_file_name


def tree(state):
    return sorted(str(path.relative_to(state)) for path in state.rglob("*") if path.is_file())


def test_a_result_is_kept_as_it_came(tmp_path):
    results = Results(tmp_path)
    results.keep("suno", "song-1", b'{"a":  1}')
    results.keep("suno", "song-1", b"{}")
    assert Results(tmp_path).find("suno", "song-1") == b"{}"
    assert results.find("suno", "song-2") is None
    assert tree(tmp_path) == ["async_results/suno/song-1.json"]
    assert (tmp_path / "async_results/suno/song-1.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "async_results/suno").stat().st_mode & 0o777 == 0o700
    results.drop("suno", "song-1")
    results.drop("suno", "song-1")
    assert results.find("suno", "song-1") is None


BAD = [
    "",
    ".",
    "..",
    "...",
    "a/b",
    "../a",
    "/etc/passwd",
    "a\\b",
    "a\0",
    "a\n",
    "~",
    "é",
    "x" * 201,
    "%2e%2e",
]


@pytest.mark.parametrize("name", BAD)
def test_a_name_that_is_no_id_never_reaches_the_disk(tmp_path, name):
    state = tmp_path / "state"
    state.mkdir()
    results = Results(state)
    for plugin, task_id in ((name, "t"), ("p", name)):
        for use in (results.find, results.drop, lambda plugin, task_id: results.keep(plugin, task_id, b"{}")):
            with pytest.raises(BadRequest):
                use(plugin, task_id)
    assert tree(tmp_path) == []


@given(st.text(alphabet=st.sampled_from("./\\:~%-_a0\0\n"), max_size=12))
def test_an_allowed_name_is_one_part_of_a_path(name):
    if is_file_name(name):
        assert os.path.normpath(f"/r/{name}") == f"/r/{name}"


def test_the_longest_names_fit(tmp_path):
    results = Results(tmp_path)
    results.keep("p" * 200, "t" * 200, b"{}")
    assert results.find("p" * 200, "t" * 200) == b"{}"


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_what_fails_half_way_leaves_the_earlier_result(tmp_path, monkeypatch, fails):
    results = Results(tmp_path)
    results.keep("p", "t", b"1")
    with monkeypatch.context() as broken:
        broken.setattr(os, fails, _full) if fails == "fsync" else broken.setattr(
            "pathlib.Path.replace", _full
        )
        with pytest.raises(OSError, match="No space"):
            results.keep("p", "t", b"2")
    assert results.find("p", "t") == b"1"
    assert tree(tmp_path) == ["async_results/p/t.json", "async_results/p/t.tmp"]
    assert Results(tmp_path).find("p", "t") == b"1"
    assert tree(tmp_path) == ["async_results/p/t.json"]


def _full(*_):
    raise OSError(28, "No space left on device")


def test_a_link_in_the_way_is_not_followed(tmp_path):
    results = Results(tmp_path)
    results.keep("p", "other", b"1")
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "async_results/p/t.tmp").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic"):
        results.keep("p", "t", b"2")
    assert (tmp_path / "precious").read_text() == "mine"
