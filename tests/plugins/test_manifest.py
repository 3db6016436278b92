"""Manifests: what is right loads, what is wrong is told with file, key and reason."""

from pathlib import Path

import pytest

from apexbridge_trio.errors import ConfigInvalid
from apexbridge_trio.plugins import Later, roster
from apexbridge_trio.plugins.manifest import MAX_BYTES, read_manifest
from tests.plugins.folders import ECHO, load, write_plugin

PHRASE = '[[sentences.en.phrases]]\ntool = "echo"\nsay = ["{say}"]\nanswer = "x"\n'


def test_a_small_manifest_has_the_defaults(tmp_path: Path) -> None:
    manifest = read_manifest(write_plugin(tmp_path) / "plugin.toml")
    [tool] = manifest.declared_tools
    assert (tool.name, tool.description) == ("echo", "Says it again.")
    assert tool.parameters == {"type": "object", "properties": {}}
    assert manifest.limits.max_execution_s == 30
    assert manifest.type == "direct"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ECHO + "verion = '1'\n", 'verion: unknown key, did you mean "version"?'),
        (ECHO + "zzz = '1'\n", "zzz: unknown key (known: name,"),
        (ECHO + "[limits]\nmax_executon_s = 1\n", 'limits.max_executon_s: unknown key, did you mean "max_execution_s"?'),
        (ECHO + "[limits]\nmax_execution_s = 0\n", "limits.max_execution_s: Expected"),
        (ECHO + "[limits]\nmax_execution_s = inf\n", "limits.max_execution_s: Expected"),
        (ECHO + "[limits]\nmax_execution_s = nan\n", "limits.max_execution_s: Expected"),
        (ECHO + f"[limits]\nmax_memory_mb = {10**30}\n", "limits.max_memory_mb: "),
        (ECHO + "[async]\nexpires_s = 1e300\n", "async.expires_s: Expected"),
        (ECHO + "[[tools]]\nname = 'a'\ndescription = 'b'\nparametrs = {}\n", 'tools[0].parametrs: unknown key, did you mean "parameters"?'),
        (ECHO + PHRASE + "anwser = 'y'\n", 'phrases[0].anwser: unknown key, did you mean "answer"?'),
        (ECHO + PHRASE.replace('"echo"', '"ecco"'), 'sentences.en.phrases.tool: no tool "ecco" here, did you mean "echo"?'),
        (ECHO + PHRASE.replace("{say}", "<polite> echo"), "sentences.en.phrases.say: <polite> is not declared above"),
        (ECHO + PHRASE.replace("{say}", "echo {what:thing}"), "sentences.en.phrases.say: {what} is not declared above"),
        (ECHO + PHRASE + "[sentences.en.rules]\na = '<a>'\n", "sentences.en.rules.a: <a> is not declared above"),
        (ECHO + PHRASE + "[sentences.en.lists]\na = ['{a}']\n", "sentences.en.lists.a: {a} is not declared above"),
        (ECHO + "[[tools]]\nname='a'\ndescription='b'\n[[tools]]\nname='a'\ndescription='c'\n", 'tools: "a" is declared twice'),
        (ECHO.replace('"inline"', '"inlin"'), "runtime: Invalid enum value 'inlin'"),
        (ECHO + "[refresh]\nevery_s = 5\n", 'refresh: is for type "static"'),
        (ECHO + "url = 'http://127.0.0.1/mcp'\n", 'url: is for runtime "mcp"'),
        (ECHO + "command = ['server']\n", 'command: is for runtime "mcp"'),
        ("name = 'echo'\n", "description: it is missing"),
        ("name = 'echo'\ndescription = 'x'\n", "entry: it is missing"),
        ("name = 'echo'\nruntime = 'mcp'\n", "entry: an MCP server has one of entry, command and url"),
        ("name = 'echo'\nruntime = 'mcp'\nurl = 'ftp://x'\n", "url: Expected `str` matching regex"),
        ("name = 'echo'\nruntime = 'mcp'\nurl = 'http://x'\ntype = 'static'\n", 'type: an MCP server is "direct"'),
        (ECHO.replace('"inline"', '"process"') + "type = 'service'\n[[tools]]\nname = 'a'\ndescription = 'b'\n", 'tools: a "service" that is a program has none'),
        (ECHO + "[limits]\nmax_memory_mb = 5\n", "limits.max_memory_mb: can only be held for a process"),
        (ECHO + "[limits]\nallow_network = false\n", "limits.allow_network: can only be held for a process"),
        (ECHO + "permissions = ['network']\n", "permissions: there is reminders, not ['network']; the network is limits.allow_network"),
        (ECHO + "type = 'hybrid'\n", 'type: a "hybrid" is a process'),
        (ECHO.replace('"inline"', '"process"') + "type = 'hybrid'\n", "limits.allow_network: a hybrid calls back over it: true"),
        (ECHO.replace('"echo.py"', '"echo.sh"'), "entry: an inline plugin is a Python module"),
        (ECHO + "on_failure = 'notify'\n", 'on_failure: is for type "hybrid", this is "direct"'),
        (ECHO + "[retry]\nattempts = 2\n", 'retry: is for type "hybrid", this is "direct"'),
        (ECHO + "[async]\nwait_s = 5\n", 'async: is for type "hybrid", this is "direct"'),
        (ECHO.replace('name = "echo"', ""), "Object missing required field `name`"),
        (ECHO.replace('"echo.py"', '"../echo.py"'), "entry: Expected `str` matching regex"),
        (ECHO + "[retry", "not TOML: "),
        ("x" * (MAX_BYTES + 1), "larger than"),
    ],
)  # fmt: skip
def test_a_bad_manifest_names_file_key_and_reason(tmp_path: Path, text: str, said: str) -> None:
    file = write_plugin(tmp_path, manifest=text) / "plugin.toml"
    with pytest.raises(ConfigInvalid) as caught:
        read_manifest(file)
    assert caught.value.message.startswith(f"{file}: ")
    assert said in caught.value.message


@pytest.mark.parametrize("entry", ["../x.py", "/bin/sh", ".hidden", "a/b.sh", "-c", "", "x" * 101, "a\\nb"])
def test_an_entry_is_a_file_of_the_folder_itself(tmp_path: Path, entry: str) -> None:
    manifest = f'name = "echo"\ndescription = "x"\nentry = "{entry}"\n'
    with pytest.raises(ConfigInvalid, match="entry: Expected `str`"):
        read_manifest(write_plugin(tmp_path, manifest=manifest) / "plugin.toml")


@pytest.mark.parametrize(
    ("keys", "later"),
    [
        ("", Later()),
        ("[async]\nwait_s = 5\nexpires_s = 60\n", Later(wait_s=5, expires_s=60)),
        ("[retry]\nattempts = 2\nbackoff_s = 4\n", Later(attempts=2, backoff_s=4)),
        ("on_failure = 'retry'\n", Later(attempts=3)),
        ("on_failure = 'notify'\n[retry]\nattempts = 2\n", Later()),
    ],
)
def test_a_hybrid_says_how_its_result_is_waited_for(tmp_path: Path, keys: str, later: Later) -> None:
    manifest = 'name = "echo"\ndescription = "x"\nentry = "echo.py"\ntype = "hybrid"\n'
    manifest += keys + "[limits]\nallow_network = true\n"
    assert read_manifest(write_plugin(tmp_path, manifest=manifest) / "plugin.toml").later == later


def test_a_manifest_that_is_a_folder_or_no_text_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="Is a directory"):
        read_manifest(tmp_path)
    (tmp_path / "plugin.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigInvalid, match="not TOML"):
        read_manifest(tmp_path / "plugin.toml")


def test_the_rest_loads_beside_a_bad_one(tmp_path: Path) -> None:
    write_plugin(tmp_path / "a", folder="bad", manifest="name = 1")
    write_plugin(tmp_path / "a")
    plugins = load(tmp_path / "a", tmp_path / "missing", state=tmp_path / "state")
    assert list(plugins.tools) == ["echo"]
    [fault] = plugins.faults
    assert "bad/plugin.toml: name: Expected `str`, got `int`" in fault
    assert (tmp_path / "state/plugins/echo").is_dir()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("plugin.toml", "x = " + "[" * 20_000),
        ("plugin-manifest.json", '{"x": ' + "[" * 20_000),
        ("plugin.toml", ECHO),
    ],
)
def test_the_rest_loads_beside_one_that_breaks_its_reader(tmp_path: Path, file: str, text: str) -> None:
    write_plugin(tmp_path / "a", folder="good", manifest=ECHO.replace('name = "echo"', 'name = "good"'))
    (tmp_path / "a/good/echo.py").write_text("async def good(arguments, home): ...\n")
    bad = write_plugin(tmp_path / "a", folder="v1.bad", code="raise SystemExit('no key')\n")
    (bad / "plugin.toml").unlink()
    (bad / file).write_text(text)
    plugins = load(tmp_path / "a", state=tmp_path / "state")
    assert list(plugins.tools) == ["good"]
    [fault] = plugins.faults
    assert "RecursionError" in fault or "SystemExit: no key" in fault
    assert [entry["name"] for entry in roster(plugins)] == ["good", "v1.bad"]


def test_the_earlier_directory_wins_a_name(tmp_path: Path) -> None:
    first = write_plugin(tmp_path / "first")
    write_plugin(tmp_path / "second")
    other = ECHO.replace('name = "echo"', 'name = "other"')
    write_plugin(tmp_path / "third", manifest=other + "[[tools]]\nname = 'echo'\ndescription = 'x'\n")
    plugins = load(tmp_path / "first", tmp_path / "second", tmp_path / "third", state=tmp_path / "state")
    assert list(plugins.sentences) == [first.name]
    assert 'there is a plugin "echo" already' in plugins.faults[0]
    assert 'plugin "echo" has a tool "echo" already' in plugins.faults[1]


def test_a_state_directory_that_can_not_be_is_a_fault(tmp_path: Path) -> None:
    write_plugin(tmp_path / "a")
    (tmp_path / "state").write_text("in the way")
    plugins = load(tmp_path / "a", state=tmp_path / "state")
    assert "no state directory: Not a directory" in plugins.faults[0]
    assert not plugins.tools
