from apexbridge_trio import log
from apexbridge_trio.agent import Options, parse_hub, run


def test_a_folder_that_can_not_be_used_is_told_and_ends_it(tmp_path):
    (tmp_path / "key").write_text("apx_key_of_this_test")
    (tmp_path / "plugins/bad").mkdir(parents=True)
    (tmp_path / "plugins/bad/plugin.toml").write_text("name = 7\n")
    (tmp_path / "nodes/attic").mkdir(parents=True)
    (tmp_path / "nodes/attic/results").write_text("a file")
    options = Options(
        hub=parse_hub("http://127.0.0.1:1"),
        key_file=tmp_path / "key",
        name="attic",
        state=tmp_path,
        plugins=(tmp_path / "plugins",),
    )
    with log.capture() as lines:
        assert run(options) == 1
    assert [line["event"] for line in lines] == ["plugin left out", "starting", "the node can not run"]
