"""The shipped file says every key there is, and what it says is true."""

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from apexbridge_trio.config import APPLIED, Config, Mcp, Model, Trigger, Upstream, load, shipped

TEXT = shipped("config.toml").read_text("utf-8")
EXAMPLES = re.sub(r"^# (?=\[\[|# |\w+ = )", "", TEXT, flags=re.MULTILINE)


def test_it_is_the_defaults() -> None:
    assert load(None, env={}) == Config()


def test_it_has_every_key_and_no_other_with_its_default() -> None:
    read: dict[str, Any] = tomllib.loads(TEXT)
    tables: dict[str, type[Upstream | Model | Trigger]] = {
        "upstreams": Upstream,
        "models": Model,
        "triggers": Trigger,
    }
    defaults = msgspec.to_builtins(Config())
    del defaults["callbacks"]["signing_secrets"]  # not of the file: what it leads to
    assert defaults["plugins"].pop("mcp") == []
    assert read == {key: value for key, value in defaults.items() if key not in tables}
    for table, kind in tables.items():
        first = tomllib.loads(EXAMPLES)[table][0]
        fields = {
            field.name: field
            for field in msgspec.structs.fields(kind)
            if field.name not in {"api_key", "secret"}
        }
        assert list(first) == list(fields)
        optional = {name: value for name, value in first.items() if not fields[name].required}
        defaults = msgspec.to_builtins(
            msgspec.convert({name: first[name] for name in fields if fields[name].required}, kind)
        )
        assert optional == {name: defaults[name] for name in optional}


def test_it_shows_an_mcp_server_with_every_key() -> None:
    (server,) = tomllib.loads(EXAMPLES)["plugins"]["mcp"]
    assert {**server, "api_key": None} == msgspec.to_builtins(Mcp("time", command=["mcp-server-time"]))
    assert [*server, "api_key"] == [field.name for field in msgspec.structs.fields(Mcp)]


def test_every_key_is_explained_and_says_when_it_counts() -> None:
    explained = False
    for line in EXAMPLES[: EXAMPLES.index("# The same for others")].splitlines():
        if re.match(r"\w+ = ", line):
            assert explained, line
        is_reason = line.startswith("#") and line.endswith((" restart", " live", " next-request"))
        explained = is_reason or line.startswith("api_key_file")  # one reason for both sources of the key


def test_it_says_of_every_key_when_a_change_counts() -> None:
    section, said, seen = "", "", set()
    for line in EXAMPLES.splitlines():
        if heading := re.fullmatch(r"\[+([\w.]+)\]+", line):
            section = heading[1]
            if said and section in APPLIED:  # a table that is one key
                assert APPLIED[section] == said, section
                seen.add(section)
        elif word := re.fullmatch(r"#.* (live|next-request|restart)", line):
            said = word[1]
        elif said and (key := re.match(r"(\w+) = ", line)):
            name = section if section in APPLIED else f"{section}.{key[1]}"
            assert APPLIED[name] == said, f"{section}.{key[1]}"
            seen.add(name)
            said = ""
    assert seen == set(APPLIED)


def test_its_examples_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "deepseek.key").write_text("sk-of-deepseek")
    (tmp_path / "deepseek.key").chmod(0o600)
    path = tmp_path / "config.toml"
    path.write_text(EXAMPLES, "utf-8")
    config = load(
        path, env={"ZHIPU_API_KEY": "of-zhipu", "OPENROUTER_API_KEY": "of-openrouter", "ALARM": "of-alarm"}
    )
    assert [one.name for one in config.upstreams] == [
        "openai", "deepseek", "zhipu", "openrouter", "ollama", "llama.cpp", "vllm"
    ]  # fmt: skip
    assert [one.id for one in config.models] == ["home"]
    assert [one.name for one in config.triggers] == ["node-away", "lost-task", "alarm", "report"]


@pytest.mark.parametrize("key", ["sk-", "apx_"])
def test_it_holds_no_key(key: str) -> None:
    assert key not in TEXT
