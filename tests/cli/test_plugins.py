"""The author's side: a plugin is begun, checked and tried without a hub."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from apexbridge_trio.cli.listener import Listener
from tests.cli.conftest import Run
from tests.fakes.hub import FakeHub, Reply

NET_S = 120

MANIFEST = """
name = "{name}"
description = "For the test."
entry = "{name}.py"
type = "{kind}"
limits = {{ allow_network = true }}
"""
TELL = """
import json, os, sys, urllib.request
def tell(task="t", **body):
    url = f"{os.environ['CALLBACK_BASE_URL']}/{os.environ['PLUGIN_NAME_FOR_CALLBACK']}/{task}"
    data = json.dumps(body).encode()
    asked = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    urllib.request.urlopen(asked, timeout=30).close()
print('{"taskId": "t", "status": "pending"}', flush=True)
"""


def write(folder: Path, code: str, *, kind: str = "hybrid", more: str = "") -> Path:
    """Write a plugin, and a config that leads to it; return the config."""
    folder.mkdir(parents=True)
    (folder / "plugin.toml").write_text(MANIFEST.format(name=folder.name, kind=kind) + more)
    (folder / f"{folder.name}.py").write_text(code)
    config = folder.parent / "config.toml"
    config.write_text(f"[plugins]\ndirectories = [{json.dumps(str(folder.parent))}]\n")
    return config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "own/probe"


def call(run: Run, *words: str, config: Path | None = None) -> Any:
    return run("plugins", "call", *words, *(("--config", str(config)) if config else ()))


CALLS = {"started": 3, "running": 0, "succeeded": 1, "failed": 2, "stopped": 0}
LISTED = [
    {"name": "clock", "type": "direct", "runtime": "inline", "state": "ready", "health": "ok", "note": ""},
    {
        "name": "probe",
        "type": "hybrid",
        "runtime": "process",
        "state": "ready",
        "health": "failing",
        "note": "",
        "lastError": "no ink",
        "calls": CALLS,
    },
    {"name": "dice", "state": "refused", "health": "failing", "lastError": "plugin.toml: entri: unknown key"},
]


@pytest.mark.parametrize("words", [["plugins"], ["plugins", "list"]])
def test_plugins_of_the_hub_are_listed(hub: FakeHub, run: Run, words: list[str]) -> None:
    hub.answers["GET /v1/plugins"] = Reply(LISTED)
    rows = [line.split() for line in run(*words).out.splitlines()]
    assert rows == [
        ["PLUGIN", "TYPE", "RUNTIME", "STATE", "HEALTH", "CALLS", "FAILED", "REMARK"],
        ["clock", "direct", "inline", "ready", "ok"],
        ["probe", "hybrid", "process", "ready", "failing", "3", "2", "no", "ink"],
        ["dice", "refused", "failing", "plugin.toml:", "entri:", "unknown", "key"],
    ]
    assert json.loads(run(*words, "--json").out) == LISTED


@pytest.mark.parametrize("lang", ["python", "node", "sh"])
@pytest.mark.parametrize("kind", ["direct", "hybrid"])
def test_a_new_plugin_passes_its_test_the_check_and_a_call(
    run: Run, tmp_path: Path, kind: str, lang: str
) -> None:
    made = run("plugins", "new", "mine", "--type", kind, "--lang", lang, "--into", str(tmp_path / "own"))
    folder = tmp_path / "own/mine"
    assert made.out.startswith(f"{folder} is ready:\n")
    tested = subprocess.run(
        [sys.executable, "-m", "unittest"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=NET_S,
        check=False,
    )
    assert (tested.returncode, "Ran 1 test" in tested.stderr) == (0, True), tested.stderr
    checked = run("plugins", "check", str(folder))
    assert (checked.code, checked.out) == (0, f"{folder} is good; tools: mine\n")
    config = tmp_path / "config.toml"
    config.write_text('[plugins]\ndirectories = ["own"]\n')
    told = call(run, "mine", '{"text": "哦"}', config=config)
    assert (told.code, json.loads(told.out)) == (0, {"heard": {"text": "哦"}})
    assert ("progress: 50% half of it\n" in told.err) == (kind == "hybrid")


def test_a_plugin_in_a_folder_is_called_without_a_config(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = run("plugins", "new", "mine")
    assert made.out.splitlines()[3] == """  apexbridge plugins call ./mine '{"text": "hello"}'"""
    heard = {"heard": {"text": "hello"}}
    for folder in ("./mine", str(tmp_path / "mine"), "./mine.mine"):
        assert json.loads(call(run, folder, '{"text": "hello"}').out) == heard
    monkeypatch.chdir("mine")
    assert json.loads(call(run, ".", '{"text": "hello"}').out) == heard


def test_one_in_a_folder_may_have_the_name_of_another(run: Run, tmp_path: Path) -> None:
    run("plugins", "new", "calculator", "--into", str(tmp_path))
    assert json.loads(call(run, f"{tmp_path}/calculator", '{"text": "1"}').out) == {"heard": {"text": "1"}}


def test_a_folder_without_a_plugin_can_not_be_called(run: Run, tmp_path: Path) -> None:
    ran = call(run, str(tmp_path))
    assert (ran.code, ran.err) == (5, f"apexbridge: {tmp_path}: there is no plugin in it\n")
    ran = call(run, "./nowhere")
    assert (ran.code, ran.err) == (5, "apexbridge: there is no folder nowhere\n")
    (tmp_path / "plugin.toml").write_text("nme = 1")
    ran = call(run, str(tmp_path))
    assert (ran.code, ran.err.startswith(f"apexbridge: {tmp_path}/plugin.toml: ")) == (5, True)


def test_a_new_plugin_may_have_the_name_of_a_module(run: Run, tmp_path: Path) -> None:
    run("plugins", "new", "calendar", "--type", "hybrid", "--into", str(tmp_path))
    command = [sys.executable, "-m", "unittest"]
    folder = tmp_path / "calendar"
    tested = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=NET_S, check=False)
    assert (tested.returncode, "Ran 1 test" in tested.stderr) == (0, True), tested.stderr
    assert run("plugins", "check", str(folder)).code == 0


def test_a_new_plugin_may_have_the_name_of_its_test(run: Run, tmp_path: Path) -> None:
    run("plugins", "new", "test_plugin", "--into", str(tmp_path))
    files = {path.name for path in (tmp_path / "test_plugin").iterdir()}
    assert files == {"plugin.toml", "main.py", "test_plugin.py"}


@pytest.mark.parametrize("lang", ["python", "node", "sh"])
def test_a_new_text_passes_its_test_and_can_be_read(run: Run, tmp_path: Path, lang: str) -> None:
    run("plugins", "new", "mine", "--type", "static", "--lang", lang, "--into", str(tmp_path / "own"))
    folder = tmp_path / "own/mine"
    command = [sys.executable, "-m", "unittest"]
    tested = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=NET_S, check=False)
    assert tested.returncode == 0, tested.stderr
    assert run("plugins", "check", str(folder)).out == f"{folder} is good\n"
    config = tmp_path / "config.toml"
    config.write_text('[plugins]\ndirectories = ["own"]\n')
    assert json.loads(call(run, "mine", config=config).out).startswith("This machine has been up for ")


@pytest.mark.parametrize("lang", ["python", "node", "sh"])
def test_a_new_service_passes_its_test_and_the_check(run: Run, tmp_path: Path, lang: str) -> None:
    run("plugins", "new", "mine", "--type", "service", "--lang", lang, "--into", str(tmp_path))
    folder = tmp_path / "mine"
    command = [sys.executable, "-m", "unittest"]
    tested = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=NET_S, check=False)
    assert (tested.returncode, "Ran 1 test" in tested.stderr) == (0, True), tested.stderr
    assert run("plugins", "check", str(folder)).out == f"{folder} is good\n"


def test_plugins_of_the_hub_are_switched_off_and_on(hub: FakeHub, run: Run) -> None:
    calls = {"running": 1}
    receipt = {"requestId": "r/lamp", "tookMs": 3, "notStopped": [], "interrupted": True, "branches": []}
    off = {"name": "lamp", "state": "disabled", "calls": calls, "interrupted": [receipt]}
    hub.answers["POST /v1/plugins/lamp/disable"] = Reply(off | {"interrupted": []})
    hub.answers["POST /v1/plugins/lamp/disable?interrupt=true"] = Reply(off | {"calls": {"running": 0}})
    hub.answers["POST /v1/plugins/lamp/enable"] = Reply({"name": "lamp", "state": "ready", "calls": calls})
    refused = {"name": "lamp", "state": "refused", "lastError": "plugin.toml: no"}
    hub.answers["POST /v1/plugins/lamp/reload"] = Reply([refused])
    assert run("plugins", "disable", "lamp").out == "lamp is disabled; 1 of its calls still run\n"
    stopped = run("plugins", "disable", "lamp", "--interrupt").out
    assert stopped == "lamp is disabled\nr/lamp stopped in 3 ms\n"
    assert run("plugins", "enable", "lamp").out == "lamp is ready\n"
    ran = run("plugins", "reload", "lamp")
    assert (ran.code, ran.out) == (1, "lamp is refused: plugin.toml: no\n")
    assert json.loads(run("plugins", "enable", "lamp", "--json").out)["state"] == "ready"
    assert run("plugins", "enable", "no/such").code == 5


def test_a_text_that_can_not_be_had_is_a_failure(run: Run, folder: Path) -> None:
    ran = call(
        run, "probe", config=write(folder, 'print(\'{"status": "error", "error": "no ink"}\')', kind="static")
    )
    assert (ran.code, ran.out, ran.err) == (1, "", "apexbridge: no ink\n")


def test_a_tool_of_an_mcp_server(run: Run, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mcp_server_time", "--local-timezone", "Asia/Shanghai"]
    config = tmp_path / "config.toml"
    config.write_text(f'[[plugins.mcp]]\nname = "time"\ncommand = {json.dumps(command)}\n')
    ran = call(run, "time", config=config)
    assert (ran.code, ran.err.startswith("apexbridge: say which tool: time.")) == (2, True)
    tool = next(name for name in ran.err.split() if "get_current_time" in name).rstrip(",")
    told = call(run, tool, '{"timezone": "Asia/Tokyo"}', config=config)
    assert (told.code, "Asia/Tokyo" in told.out) == (0, True)


def test_what_is_there_is_not_touched(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    ran = run("plugins", "new", "mine", "--into", str(tmp_path))
    assert (ran.code, ran.err) == (2, f"apexbridge: {tmp_path}/mine is there already\n")
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize("name", ["../mine", "Mine", "mine.toml", "", "9", "/tmp/mine"])
def test_a_name_is_no_path(run: Run, tmp_path: Path, name: str) -> None:
    assert run("plugins", "new", name, "--into", str(tmp_path)).code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_can_not_be_made(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = run("plugins", "new", "mine", "--into", str(tmp_path / "file"))
    assert (ran.code, "can not be made: Not a directory" in ran.err) == (2, True)


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ('displayname = "x"', 'displayname: unknown key, did you mean "display_name"?'),
        ("[parameters]\ntype = 5", "parameters: "),
        (
            '[sentences.en]\nphrases = [{tool = "probe", say = ["(a"], answer = "b"}]',
            "sentences.en.phrases[0]: ",
        ),
        ('[sentences.en]\nphrases = [{tool = "x", say = ["a"], answer = "b"}]', 'did you mean "probe"?'),
    ],
)
def test_a_check_says_what_is_wrong(run: Run, folder: Path, more: str, fault: str) -> None:
    write(folder, "", more=more)
    ran = run("plugins", "check", str(folder))
    assert ran.code == 1
    assert ran.out.startswith(f"{folder}")
    assert fault in ran.out
    as_json = json.loads(run("plugins", "check", str(folder), "--json").out)
    assert as_json["faults"] == ran.out.splitlines()


def test_a_check_of_what_is_no_plugin(run: Run, tmp_path: Path) -> None:
    assert run("plugins", "check", str(tmp_path / "nowhere")).code == 5
    ran = run("plugins", "check", str(tmp_path))
    assert (ran.code, ran.out) == (
        1,
        f"{tmp_path}: there is neither a plugin.toml nor a plugin-manifest.json in it\n",
    )


LEGACY = {"name": "Weather", "pluginType": "synchronous", "entryPoint": {"command": "python weather.py"}}


@pytest.mark.parametrize(
    ("changes", "code", "line"),
    [
        ({}, 0, " is good; tools: Weather"),
        ({"pluginType": "hybridservice"}, 1, ": not supported: needs Node"),
        ({"pluginType": "odd"}, 1, "/plugin-manifest.json: pluginType: "),
        ({"name": 5}, 1, "/plugin-manifest.json: Expected `str`, got `int` - at `$.name`"),
    ],
)
def test_a_check_of_a_legacy_folder(
    run: Run, tmp_path: Path, changes: dict[str, Any], code: int, line: str
) -> None:
    (tmp_path / "plugin-manifest.json").write_text(json.dumps(LEGACY | changes))
    (tmp_path / "weather.py").write_text("print('{}')")
    ran = run("plugins", "check", str(tmp_path))
    assert (ran.code, ran.out.startswith(f"{tmp_path}{line}")) == (code, True), ran.out


def test_what_a_call_says_goes_to_stderr(run: Run, folder: Path) -> None:
    code = "import sys; print('aha', file=sys.stderr); print('[1]')"
    told = call(run, "probe", config=write(folder, code, kind="direct"))
    assert json.loads(told.out) == [1]
    assert "text=aha" in told.err


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["nothing"], 5, "there is no plugin 'nothing' (there are: agenda, "),
        (["agenda"], 2, "say which tool: agenda.agenda_list, agenda.agenda_add, agenda.agenda_remove"),
        (["agenda.nothing"], 2, "say which tool: agenda.agenda_list"),
        (["clock", "[]"], 2, "the arguments are no JSON object: "),
        (["clock", '{"zone": "Atlantis"}'], 1, "LookupError: no time zone 'Atlantis'"),
        (["clock", '{"zon": 1}'], 1, ""),
    ],
)
def test_what_can_not_be_called_is_one_line(run: Run, words: list[str], code: int, line: str) -> None:
    ran = call(run, *words)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith(f"apexbridge: {line}")
    assert ran.err.count("\n") == 1


def test_a_plugin_that_does_not_load_says_why(run: Run, folder: Path) -> None:
    ran = call(run, "probe", config=write(folder, "", more="entri = 1"))
    assert ran.code == 5
    assert 'entri: unknown key, did you mean "entry"?' in ran.err


def test_a_failed_callback_is_a_failed_call(run: Run, folder: Path) -> None:
    config = write(
        folder, TELL + "tell(task='other', status='success')\ntell(status='failed', error='no\\nink')"
    )
    ran = call(run, "probe", config=config)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.splitlines() == [
        "pending: task t",
        "a callback for another task: other",
        "apexbridge: no ink",
    ]


def test_a_result_that_never_comes_is_waited_for_as_the_manifest_says(run: Run, folder: Path) -> None:
    config = write(folder, TELL + "sys.stdin.read()\n", more="async = { expires_s = 0.2 }")
    ran = call(run, "probe", config=config)
    assert (ran.code, ran.err.splitlines()[-1]) == (
        1,
        "apexbridge: probe did not bring its result within 0.2 s.",
    )


# What a shell runs in the background, a whole suite perhaps, is started with Ctrl-C ignored.
BEHIND = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"]


@pytest.mark.parametrize("by", [[], BEHIND], ids=["as it is", "ignored at the start"])
def test_ctrl_c_ends_the_plugin_with_all_its_processes(folder: Path, tmp_path: Path, by: list[str]) -> None:
    """The plugin's child holds a pipe open that ends with it."""
    pipe = tmp_path / "alive"
    os.mkfifo(pipe)
    code = (
        TELL
        + f"import subprocess\nsubprocess.run(['sh', '-c', 'exec sleep 600 > {pipe}'], start_new_session=True)"
    )
    config = write(folder, code)
    words = [sys.executable, "-m", "apexbridge_trio", "plugins", "call", "probe", "--config", str(config)]
    with subprocess.Popen([*by, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        with pipe.open("rb", buffering=0) as alive:  # opens once the child has it open too
            running.send_signal(signal.SIGINT)
            try:
                out, err = running.communicate(timeout=NET_S)
            finally:
                running.kill()
            os.set_blocking(alive.fileno(), False)
            assert alive.read() == b"", "when it has ended, so have they"
    assert (running.returncode, out) == (130, b"")
    assert err.splitlines()[-1] == b"apexbridge: stopped"


def test_a_service_without_tools_has_nothing_to_call(run: Run, folder: Path) -> None:
    ran = call(run, "probe", config=write(folder, "import time; time.sleep(600)", kind="service"))
    assert (ran.code, ran.err) == (2, "apexbridge: probe has no tools\n")


async def test_the_listener_takes_only_what_is_a_callback_of_its_task() -> None:
    listener = Listener()
    async with trio.open_nursery() as nursery, httpx.AsyncClient(trust_env=False, timeout=NET_S) as client:
        await nursery.start(listener.run)
        with trio.fail_after(NET_S):
            own = f"{listener.address.base_url}/probe/t"
            guessed = own.replace(listener.address.token, "x" * 43)
            good = {"status": "success", "output": 5}
            assert (await client.post(guessed, json=good)).status_code == 404
            assert (await client.get(own)).status_code == 404
            assert (await client.post(own, content=b"nonsense")).status_code == 400
            assert (await client.post(own, content=b"x" * 1_048_577)).status_code == 413
            assert (await client.post(own, json=good)).json() == {"status": "success"}
            task_id, callback = await listener.callbacks.receive()
            assert (task_id, callback.value) == ("t", 5)
        nursery.cancel_scope.cancel(reason="the test is over")
