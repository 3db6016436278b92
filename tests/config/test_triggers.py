"""``[[triggers]]``: what may stand there, and what is told of what may not, with its line."""

import re
from pathlib import Path

import pytest

from apexbridge_trio.config import Config, load, public
from apexbridge_trio.errors import ConfigInvalid
from apexbridge_trio.protocol.happened import FIELDS

NIGHT = """
[[triggers]]
name = "away"
on = "node.status"
do = "notify"
when = { to = ["offline", "draining"] }
for_s = 60
text = "{nodeId} is {to}"
"""
HOOK = """
[[triggers]]
name = "hook"
on = "alert"
do = "webhook"
url = "https://example.org/hook?key=hunter2-is-my-key"
secret_env = "HOOK"
"""


def loaded(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "config.toml"
    path.write_text(text, "utf-8")
    return load(path, env={"HOOK": "whsec_c2VjcmV0LW9mLWEtaG9vaw=="})


def faults(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigInvalid) as told:
        loaded(tmp_path, text)
    return told.value.message.splitlines()


def test_a_trigger_is_read(tmp_path: Path) -> None:
    (away, hook) = loaded(tmp_path, NIGHT + HOOK).triggers
    assert (away.when, away.for_s, away.tenant, away.max_per_hour) == (
        {"to": ["offline", "draining"]},
        60,
        "default",
        60,
    )
    assert hook.secret is not None
    assert hook.secret.reveal().startswith("whsec_")


def test_neither_the_secret_nor_the_address_is_shown(tmp_path: Path) -> None:
    shown = str(public(loaded(tmp_path, HOOK)))
    assert "c2VjcmV0" not in shown
    assert "hunter2" not in shown
    assert "https://example.org/***" in shown


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('on = "node.state"', "config.toml:3: triggers[0].on: there is no event 'node.state'; did you mean node.status?"),
        ('on = "weather"', "config.toml:3: triggers[0].on: there is no event 'weather'; there are node.status,"),
        ('when = { too = "offline" }', "config.toml:3: triggers[0].when.too: node.status has no field 'too'; did you mean to?"),
        ('when = { to = "gone" }', "triggers[0].when.to: this can never be met: it is one of online, busy, draining, offline"),
        ("when = { nodeId = 7 }", "triggers[0].when.nodeId: this can never be met: it is a text, never 7"),
        ("when = { to = [] }", "triggers[0].when.to: an empty list can never be met"),
        ("when = { to = { a = 1 } }", "triggers[0].when: "),
        ("for_s = -1", "config.toml:3: triggers[0].for_s: "),
        ("for_s = 5", "triggers[0].for_s: without a condition in `when` nothing would end it"),
        ('text = "{nodeID}"', "triggers[0].text: node.status has no field 'nodeID'; did you mean nodeId?"),
        ('do = "chat"', 'triggers[0]: prompt is missing: do = "chat" needs it'),
        ('do = "dance"', "triggers[0].do: expected 'notify' or 'alert'"),
        ('prompt = "x"', 'triggers[0].prompt: do = "notify" takes no prompt'),
        ('name = "a b"', "triggers[0].name: "),
        ('tenant = "a/b"', "triggers[0].tenant: 1 to 200 of"),
        ('tenant = ""', "triggers[0].tenant: "),
        ("max_per_hour = 0", "triggers[0].max_per_hour: "),
        ("forever = 1", "triggers[0].forever: unknown key"),
    ],
)  # fmt: skip
def test_what_may_not_be(tmp_path: Path, line: str, told: str) -> None:
    key = line.partition(" ")[0]
    rest = {"name": '"x"', "on": '"node.status"', "do": '"notify"', "text": '"gone"'}
    rest.pop(key, None)
    text = "\n".join(["", "[[triggers]]", line, *(f"{name} = {value}" for name, value in rest.items())])
    assert any(told in fault for fault in faults(tmp_path, text)), faults(tmp_path, text)


def test_what_can_not_last_has_no_duration(tmp_path: Path) -> None:
    text = '[[triggers]]\nname = "x"\non = "alert"\ndo = "notify"\ntext = "y"\nfor_s = 5\nwhen = {level = "error"}\n'
    [fault] = faults(tmp_path, text)
    assert fault.startswith("config.toml:6: triggers[0].for_s: only node.status and task.status")


def test_a_name_is_there_once(tmp_path: Path) -> None:
    assert "triggers[1].name: 'away' is taken" in faults(tmp_path, NIGHT + NIGHT)[0]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('url = "http://127.0.0.1/x"', "triggers[0].url: it leads to a private address; if that is meant: allow_private"),
        ('url = "http://localhost:80/x"', "it leads to a private address"),
        ('url = "http://a.localhost./x"', "it leads to a private address"),
        ('url = "http://[::ffff:10.0.0.1]/x"', "it leads to a private address"),
        ('url = "ftp://example.org"', "triggers[0].url: expected an address like"),
        ('url = "https://u:p@example.org/"', "no name, no password"),
        ('url = "http://[::1"', "expected an address like"),
        ('url = "http://hooks..example.org/"', "expected an address like"),
        ('url = "http://[fec0::1]/"', "it leads to a private address"),
        ('secret_file = "x"', "a webhook is signed: it has a secret_file or a secret_env, one of the two"),
        ('secret_env = "NOBODY"', "triggers[0].secret_env: the environment variable NOBODY is not set"),
        ('secret_env = ""', "a webhook is signed"),
        ('text = "x"', 'do = "webhook" takes no text'),
    ],
)  # fmt: skip
def test_a_webhook_that_may_not_be(tmp_path: Path, line: str, told: str) -> None:
    key = line.partition(" ")[0]
    text = "\n".join(one for one in HOOK.splitlines() if not one.startswith(f"{key} =")) + f"\n{line}\n"
    assert any(told in fault for fault in faults(tmp_path, text)), faults(tmp_path, text)


def test_a_private_address_that_is_listed_is_meant(tmp_path: Path) -> None:
    text = HOOK.replace("https://example.org", "http://127.0.0.1:9") + 'allow_private = ["127.0.0.1"]\n'
    assert loaded(tmp_path, text).triggers[0].allow_private == ["127.0.0.1"]


def test_the_page_about_them_is_true(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/triggers.md").read_text("utf-8")
    (tmp_path / "hook.secret").write_text("whsec_c2VjcmV0LW9mLWEtaG9vaw==")
    (tmp_path / "hook.secret").chmod(0o600)
    example = page.partition("```toml\n")[2].partition("```")[0]
    assert [one.name for one in loaded(tmp_path, example).triggers] == ["attic-away", "lost-task"]
    words = set(re.findall(r"[\w.]+", page))
    assert words >= {*FIELDS, *(name for fields in FIELDS.values() for name in fields)}
