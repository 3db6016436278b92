"""A good config is read whole; of a bad one every fault is told at once, with its line."""

from pathlib import Path
from typing import Any

import pytest

from apexbridge_trio import log
from apexbridge_trio.config import Config, KeyLimits, load, public
from apexbridge_trio.errors import ConfigInvalid
from apexbridge_trio.redaction import redact

UPSTREAM = '[[upstreams]]\nname = "local"\nbase_url = "http://127.0.0.1:1/v1"\n'


def config_of(folder: Path, text: str, **env: str) -> Config:
    path = folder / "config.toml"
    path.write_text(text, "utf-8")
    return load(path, env=env)


def faults_of(folder: Path, text: str, **env: str) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        config_of(folder, text, **env)
    return caught.value.message.splitlines()


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert config_of(tmp_path, "") == Config()


def test_a_whole_file(tmp_path: Path) -> None:
    config = config_of(
        tmp_path,
        '\ufeff[server]\nbind = "[::1]:0"\n[chat]\ntimeout_s = 5\n'
        '[[upstreams]]\nname = "a"\nbase_url = "https://host/v1"\ntools = ["agenda"]\n'
        'headers = { "X-Title" = "home" }\nproxy = "http://127.0.0.1:3128"\n'
        '[[models]]\nid = "one"\nupstream = "a"\ntools = "all"\nfallback = ["two", "apex-intents"]\n'
        '[[models]]\nid = "two"\nupstream = "a"\n',
    )
    assert config.server.bind == "[::1]:0"
    assert config.chat.timeout_s == 5.0
    assert config.upstreams[0].tools == ["agenda"]
    assert config.upstreams[0].headers == {"X-Title": "home"}
    assert [model.id for model in config.models] == ["one", "two"]


def test_each_table_of_the_contract_may_stand_there_empty(tmp_path: Path) -> None:
    tables = ("server", "auth", "chat", "nodes", "plugins", "callbacks", "events", "limits", "log")
    assert config_of(tmp_path, "\n".join(f"[{table}]" for table in tables)) == Config()


def test_a_key_may_have_limits_of_its_own(tmp_path: Path) -> None:
    limits = config_of(
        tmp_path, '[limits]\nchats_per_minute = 9\n[limits.keys."0123456789abcdef"]\ntokens_per_day = 5\n'
    ).limits
    assert limits.chats_per_minute == 9
    assert limits.keys == {"0123456789abcdef": KeyLimits(tokens_per_day=5)}


def test_a_fault_in_the_limits_of_a_key_has_its_line(tmp_path: Path) -> None:
    assert faults_of(
        tmp_path,
        "[limits.keys.local]\nchat_per_minute = 1\nchannels = -1\n[limits.keys]\nother = 3\n",
    ) == [
        "config.toml:2: limits.keys.local.chat_per_minute: unknown key; did you mean chats_per_minute?",
        "config.toml:3: limits.keys.local.channels: expected an integer >= 0",
        "config.toml:5: limits.keys.other: expected a table, got an integer",
    ]


def test_a_proxy_is_an_address_or_a_network(tmp_path: Path) -> None:
    good = config_of(tmp_path, '[server]\ntrusted_proxies = ["127.0.0.1", "10.0.0.0/8", "::1"]\n')
    assert good.server.trusted_proxies == ["127.0.0.1", "10.0.0.0/8", "::1"]
    assert faults_of(tmp_path, '[server]\ntrusted_proxies = ["127.0.0.1", "proxy"]\n') == [
        "config.toml:2: server.trusted_proxies[1]: expected an address or a network as 10.0.0.0/8, got 'proxy'"
    ]


def test_every_fault_is_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """[chat]
max_round = 3
timeout_s = -1
max_rounds = "x"
[log]
level = "inf"
[[upstreams]]
name = "a"
base_url = "ftp://x"
tools = "al"
models = ["ok", 1]
[[upstreams]]
name = "a"
base_url = "http://user:hunter2@host/v1"
api_key = "hunter2"
[[models]]
id = "m"
upstream = "b"
fallback = ["m"]
"""
    assert faults_of(tmp_path, text) == [
        "config.toml:2: chat.max_round: unknown key; did you mean max_rounds?",
        "config.toml:3: chat.timeout_s: expected a number > 0.0",
        "config.toml:4: chat.max_rounds: expected an integer, got a string",
        "config.toml:6: log.level: expected 'debug' or 'info' or 'warning' or 'error', got 'inf'; did you mean info?",
        "config.toml:9: upstreams[0].base_url: expected an address like https://host:port/path",
        "config.toml:10: upstreams[0].tools: expected 'all' or 'none' or an array, got 'al'; did you mean all?",
        "config.toml:11: upstreams[0].models: [1]: expected a string, got an integer",
        "config.toml:13: upstreams[1].name: 'a' is taken by an entry above",
        "config.toml:14: upstreams[1].base_url: no name and password in an address: they would be shown",
        "config.toml:15: upstreams[1].api_key: unknown key; did you mean api_key_env?",
        "config.toml:18: models[0].upstream: there is no upstream 'b'",
        "config.toml:19: models[0].fallback[0]: there is no other model 'm'",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("chat = 3", "config.toml:1: chat: expected a table, got an integer"),
        ("log = 2026-11-22", "config.toml:1: log: expected a table, got a date"),
        ("upstreams = 3", "config.toml:1: upstreams: expected an array, got an integer"),
        ("upstreams = [3]", "config.toml:1: upstreams[0]: expected a table, got an integer"),
        ("[chats]", "config.toml:1: chats: unknown key; did you mean chat?"),
        ("[wholly-else]", "config.toml:1: wholly-else: unknown key"),
        ("a = 1\nb = \nc = 1", "config.toml:2: not TOML: invalid value"),
        ("a = ", "config.toml: not TOML: invalid value (at end of document)"),
        ('[auth]\nloopback = "all"', "config.toml:2: auth.loopback: expected 'chat' or 'none', got 'all'"),
        ("[limits]\nmax_connections = 0", "config.toml:2: limits.max_connections: expected an integer >= 1"),
        (
            "[limits]\nbody_timeout_s = true",
            "config.toml:2: limits.body_timeout_s: expected a number, got a boolean",
        ),
    ],
)
def test_one_fault(text: str, fault: str, tmp_path: Path) -> None:
    assert faults_of(tmp_path, text) == [fault]


def test_what_is_missing_is_told_at_its_table(tmp_path: Path) -> None:
    assert faults_of(tmp_path, UPSTREAM + "[[upstreams]]\nbase_url = 3\n") == [
        "config.toml:4: upstreams[1]: name is missing",
        "config.toml:5: upstreams[1].base_url: expected a string, got an integer",
    ]


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"can not read .*nowhere: No such file or directory"):
        load(tmp_path / "nowhere", env={})
    (tmp_path / "latin").write_bytes(b"# \xe9")
    with pytest.raises(ConfigInvalid, match="latin: byte 2 is not UTF-8"):
        load(tmp_path / "latin", env={})


def test_plugin_folders_are_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "config.toml").write_text('[plugins]\ndirectories = ["mine"]')
    monkeypatch.chdir(tmp_path)
    assert load(Path("config.toml"), env={}).plugins.directories == [str(tmp_path / "mine")]
    assert faults_of(tmp_path, '[plugins]\ndirectories = ["mine", "yours"]') == [
        "config.toml:2: plugins.directories[1]: there is no such folder"
    ]


def key_of(config: Config) -> str:
    assert config.upstreams[0].api_key is not None
    return config.upstreams[0].api_key.reveal()


def test_a_key_comes_from_the_environment(tmp_path: Path) -> None:
    text = UPSTREAM + 'api_key_env = "LOCAL_KEY"'
    assert key_of(config_of(tmp_path, text, LOCAL_KEY=" sk-from-the-env\n")) == "sk-from-the-env"
    assert faults_of(tmp_path, text) == [
        "config.toml:4: upstreams[0].api_key_env: the environment variable LOCAL_KEY is not set"
    ]


def test_a_key_comes_from_a_file_and_a_credential_comes_first(tmp_path: Path) -> None:
    text = UPSTREAM + 'api_key_file = "local.key"'
    beside = tmp_path / "local.key"
    beside.touch(mode=0o600)
    beside.write_text("sk-beside-the-config\n")
    with log.capture() as lines:
        assert key_of(config_of(tmp_path, text)) == "sk-beside-the-config"
    assert lines == []
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    env = {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert key_of(config_of(tmp_path, text, **env)) == "sk-beside-the-config"
    (credentials / "local.key").write_text("sk-of-systemd")
    (credentials / "local.key").chmod(0o400)
    assert key_of(config_of(tmp_path, text, **env)) == "sk-of-systemd"


def test_a_key_that_everybody_may_read_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "local.key").write_text("sk-beside-the-config")
    (tmp_path / "local.key").chmod(0o644)
    with log.capture() as lines:
        config_of(tmp_path, UPSTREAM + 'api_key_file = "local.key"')
    assert [(line["log_level"], line["file"]) for line in lines] == [("warning", str(tmp_path / "local.key"))]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (b"one-line\nof-several", "holds more than one line of printable ASCII"),
        (b"caf\xc3\xa9-caf\xc3\xa9", "holds more than one line of printable ASCII"),
        (b"x" * 70_000, "holds more than one line of printable ASCII"),
    ],
)
def test_a_key_that_is_none_is_named_and_not_shown(content: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "local.key"
    path.write_bytes(content)
    (fault,) = faults_of(tmp_path, UPSTREAM + 'api_key_file = "local.key"')
    assert fault == f"config.toml:4: upstreams[0].api_key_file: {path} {what}"


def test_a_key_file_that_is_not_there(tmp_path: Path) -> None:
    (fault,) = faults_of(tmp_path, UPSTREAM + 'api_key_file = "local.key"')
    assert fault.endswith("local.key: No such file or directory")


def test_two_sources_of_one_key_are_a_fault(tmp_path: Path) -> None:
    (tmp_path / "local.key").write_text("sk-beside-the-config")
    text = UPSTREAM + 'api_key_file = "local.key"\napi_key_env = "K"'
    assert faults_of(tmp_path, text, K="sk-in-the-env") == [
        "config.toml:5: upstreams[0].api_key_env: one source of the key is enough; api_key_file is set too"
    ]


def test_secrets_are_masked_in_all_that_is_shown(tmp_path: Path) -> None:
    text = UPSTREAM + 'api_key_env = "K"\nheaders = { X-Api-Key = "of-the-header", X-Title = "my home hub" }'
    config = config_of(tmp_path, text, K="sk-in-the-env")
    shown: dict[str, Any] = public(config)["upstreams"][0]
    assert shown["api_key"] == "***"
    assert shown["headers"] == {"X-Api-Key": "***", "X-Title": "***"}
    assert "sk-in-the-env" not in repr(config)
    assert str(config.upstreams[0].api_key) == "***"
    assert redact("sk-in-the-env of-the-header my home hub") == "*** *** my home hub"
    assert public(Config())["upstreams"] == []


def test_signing_secrets_are_read_by_plugin_and_never_shown(tmp_path: Path) -> None:
    for name in ("suno.new", "suno.old"):
        (tmp_path / name).write_text(f"of-{name}\n")
        (tmp_path / name).chmod(0o600)
    text = '[callbacks]\nsigning_secret_files = { suno = ["suno.new", "suno.old"] }'
    config = config_of(tmp_path, text)
    assert [one.reveal() for one in config.callbacks.signing_secrets["suno"]] == [
        "of-suno.new",
        "of-suno.old",
    ]
    assert public(config)["callbacks"]["signing_secrets"] == {"suno": ["***", "***"]}
    (tmp_path / "suno.old").unlink()
    (fault,) = faults_of(tmp_path, text)
    assert fault.startswith("config.toml:2: callbacks.signing_secret_files.suno[1]: can not read ")
