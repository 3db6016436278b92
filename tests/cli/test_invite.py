import json
import shlex
from pathlib import Path

import pytest

from apexbridge_trio.cli import joining
from apexbridge_trio.identity import Keys
from apexbridge_trio.store import Store
from tests.cli.conftest import Ran, Run


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "lan_address", lambda: "192.168.1.5")


def invite(run: Run, place: Path, toml: str = "", *words: str) -> Ran:
    config = place / "own.toml"
    config.write_text(toml)
    return run("nodes", "invite", "attic", "--state", str(place), "--config", str(config), *words)


def hub_in(ran: Ran) -> str:
    assert ran.code == 0
    words = shlex.split(ran.out)
    return words[words.index("--hub") + 1]


def test_the_line_is_alone_on_stdout_and_its_key_is_good(tmp_path: Path, run: Run) -> None:
    ran = invite(run, tmp_path, "", "--tenant", "home", "--family", "kid", "--hub", "http://192.168.1.5:8088")
    key = ran.out.split()[3]
    assert ran.out == (
        f"(umask 077; echo {key} > attic.key) && "
        "apexbridge node --hub http://192.168.1.5:8088 --key-file attic.key --name attic\n"
    )
    assert key not in ran.err
    assert len(ran.err.splitlines()) == 1
    with Store(tmp_path) as store:
        principal = Keys(store).principal_of(key)
        assert principal is not None
        assert (principal.tenant_id, principal.family_id, principal.scopes) == (
            "home",
            "kid",
            frozenset({"node"}),
        )
        assert [record.name for record in Keys(store).records()] == ["attic"]


def test_as_json(tmp_path: Path, run: Run) -> None:
    told = json.loads(invite(run, tmp_path, "", "--hub", "https://home.example/apex", "--json").out)
    assert (told["name"], told["hub"]) == ("attic", "https://home.example/apex")
    assert told["key"].startswith(f"apx_{told['keyId']}_")
    assert f"echo {told['key']} >" in told["command"]


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ('bind = "0.0.0.0:8088"\npublic_url = "https://home.example"', "https://home.example"),
        ('bind = "0.0.0.0:8088"', "http://192.168.1.5:8088"),
        ('bind = "[::]:80"', "http://192.168.1.5:80"),
        ('bind = "10.0.0.7:8088"', "http://10.0.0.7:8088"),
        ('bind = "[fd00::7]:8088"', "http://[fd00::7]:8088"),
        ('bind = "pi.local:8088"', "http://pi.local:8088"),
    ],
)
def test_the_config_says_where_the_hub_is(server: str, url: str, tmp_path: Path, run: Run) -> None:
    ran = invite(run, tmp_path, f"[server]\n{server}\n")
    assert hub_in(ran) == url
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize("bind", ["127.0.0.1:8088", "[::1]:8088", "localhost:8088"])
def test_a_hub_that_only_this_machine_reaches(bind: str, tmp_path: Path, run: Run) -> None:
    ran = invite(run, tmp_path, f'[server]\nbind = "{bind}"\n')
    assert hub_in(ran) == f"http://{bind}"
    assert ran.err.splitlines()[1] == (
        f"the hub listens on {bind} only, so other machines can not reach it: "
        'put bind = "0.0.0.0:8088" below [server] into config.toml and start the hub again; '
        "the line is then to say --hub http://192.168.1.5:8088"
    )


def test_a_machine_without_a_network(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "lan_address", lambda: None)
    monkeypatch.setattr("socket.gethostname", lambda: "box")
    ran = invite(run, tmp_path, '[server]\nbind = "0.0.0.0:8088"\n')
    assert hub_in(ran) == "http://box:8088"
    assert "has no network now" in ran.err
    assert invite(run, tmp_path).err.splitlines()[1].endswith("start the hub again")


def test_a_port_that_is_not_known(tmp_path: Path, run: Run) -> None:
    ran = invite(run, tmp_path, '[server]\nbind = "0.0.0.0:0"\n')
    assert (ran.code, ran.out) == (2, "")
    assert "--hub URL" in ran.err


@pytest.mark.parametrize(
    ("hub", "said"),
    [
        ("http://127.0.0.1:8088", "this machine itself"),
        ("localhost:8088", "this machine itself"),
    ],
)
def test_an_address_that_only_this_machine_knows(hub: str, said: str, tmp_path: Path, run: Run) -> None:
    ran = invite(run, tmp_path, "", "--hub", hub)
    assert hub_in(ran) == (hub if "//" in hub else f"http://{hub}")
    assert said in ran.err


@pytest.mark.parametrize("hub", ["ftp://h", "http://", "http://[::1", "http://h/?key=1", "http://h:x"])
def test_an_address_that_is_none(hub: str, tmp_path: Path, run: Run) -> None:
    ran = invite(run, tmp_path, "", "--hub", hub)
    assert (ran.code, ran.out) == (2, "")
    with Store(tmp_path) as store:
        assert not Keys(store).records()


def test_what_a_shell_would_take_apart_is_quoted(tmp_path: Path, run: Run) -> None:
    ran = invite(run, tmp_path, "", "--hub", "http://h/a;b$c")
    assert "--hub 'http://h/a;b$c' --key-file" in ran.out


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("kitchen pi", "did you mean kitchen-pi?"),
        ("../x", "did you mean x?"),
        ("-x", None),
        ("厨房", "for example kitchen-pi"),
        ("a\n", "did you mean a?"),
        ("a" * 101, "did you mean"),
        ("", "for example kitchen-pi"),
    ],
)
def test_a_name_that_is_none(name: str, hint: str | None, tmp_path: Path, run: Run) -> None:
    ran = run("nodes", "invite", name, "--state", str(tmp_path))
    assert (ran.code, ran.out) == (2, "")
    assert hint is None or hint in ran.err
    assert not list(tmp_path.iterdir())


def test_a_config_with_faults_makes_no_key(tmp_path: Path, run: Run) -> None:
    ran = invite(run, tmp_path, "[server]\nbnd = 1\n")
    assert (ran.code, ran.out) == (2, "")
    with Store(tmp_path) as store:
        assert not Keys(store).records()


def test_the_address_of_this_machine_is_not_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    own = joining.lan_address()
    assert own is None or not joining.is_loopback(own)
