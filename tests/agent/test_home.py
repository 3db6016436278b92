import pytest

from apexbridge_trio.agent.home import folder_name, open_home
from apexbridge_trio.errors import ConfigInvalid


def test_the_id_is_the_same_after_each_start(tmp_path):
    with open_home(tmp_path, "attic") as first:
        assert first.folder == tmp_path / "nodes/attic"
        assert first.node_id == "attic"
    with open_home(tmp_path, "attic") as again, open_home(tmp_path, "cellar") as other:
        assert again.node_id == first.node_id
        assert other.node_id != first.node_id
    with open_home(tmp_path, "attic", "mine") as named:
        assert named.node_id == "mine"


def test_a_folder_is_one_agents(tmp_path):
    with open_home(tmp_path, "attic"):
        with pytest.raises(ConfigInvalid, match="another agent runs"):
            with open_home(tmp_path, "attic"):
                pass
    with open_home(tmp_path, "attic"):
        pass


def test_an_id_that_can_not_be_one_is_refused_or_made_anew(tmp_path):
    with pytest.raises(ConfigInvalid, match="--id"):
        with open_home(tmp_path, "attic", "a b"):
            pass
    (tmp_path / "nodes/attic").mkdir(parents=True)
    (tmp_path / "nodes/attic/id").write_text("a b\n")
    with open_home(tmp_path, "attic") as home:
        assert home.node_id == "attic"
    with open_home(tmp_path, "客厅") as unnamed:
        assert unnamed.node_id.startswith("node_")
    with open_home(tmp_path, "客厅") as again:
        assert again.node_id == unnamed.node_id
    (tmp_path / "nodes/attic/id").write_bytes(b"\xff")
    with pytest.raises(ConfigInvalid, match="can not use"):
        with open_home(tmp_path, "attic"):
            pass


def test_a_state_directory_that_can_not_be_written(tmp_path):
    (tmp_path / "nodes").write_text("a file")
    with pytest.raises(ConfigInvalid, match="can not use"):
        with open_home(tmp_path, "attic"):
            pass


def test_names_of_people_are_names_of_folders():
    assert folder_name("attic") == "attic"
    names = ["..", ".", "a/b", "a b", "a_b", "书房", "x" * 200, "y" * 300]
    made = {folder_name(name) for name in names}
    assert len(made) == len(names)
    assert all("/" not in name and name.strip(".") and len(name) <= 200 for name in made)
