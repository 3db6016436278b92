"""Legacy folders: what their manifests mean, and one of each type run as it is."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.plugins import CallbackAddress, CallContext, Pending, Plugins, conversation, roster
from apexbridge_trio.plugins.legacy import read_legacy
from tests.harness.clock import net
from tests.plugins.folders import SUNDAY, call_tool, flight_of
from tests.plugins.programs import SAFETY_S

# What a program has said last is told with its exit.
pytestmark = pytest.mark.usefixtures("patient")

SYNCHRONOUS = {
    "manifestVersion": "1.0.0",
    "name": "SciCalculator",
    "displayName": "科学计算器",
    "version": "1.1.1",
    "description": "执行数学表达式计算。",
    "author": "Lionsky",
    "pluginType": "synchronous",
    "entryPoint": {"type": "python", "command": "python calculator.py"},
    "communication": {"protocol": "stdio", "timeout": 15000},
    "configSchema": {"PRECISION": "integer"},
    "capabilities": {
        "invocationCommands": [
            {"commandIdentifier": "SciCalculatorRequest", "description": "expression: 表达式"}
        ]
    },
}
CALCULATOR = """
import json, os, sys
asked = json.load(sys.stdin)
assert all(isinstance(value, str) for value in asked.values()), asked
if asked.get("expression") == "1/0":
    print(json.dumps({"status": "error", "error": "division by zero"}))
    sys.exit(1)
names = ["PRECISION", "PROJECT_BASE_PATH", "SERVER_PORT", "PYTHONIOENCODING", "PLUGIN_NAME_FOR_CALLBACK"]
print(json.dumps({"status": "success", "result": {"asked": asked, **{n: os.environ.get(n) for n in names}}}))
sys.exit(3)
"""
ASYNCHRONOUS = {
    "name": "VideoGenerator",
    "pluginType": "asynchronous",
    "description": "Makes a film.",
    "entryPoint": {"type": "python", "command": "python video.py"},
    "communication": {"protocol": "stdio", "timeout": 1800000},
    "capabilities": {
        "invocationCommands": [
            {"command": "submit", "description": "Begin a film."},
            {"command": "query", "description": "Ask for one."},
        ]
    },
}
VIDEO = """
import json, os, sys, urllib.request
asked = json.load(sys.stdin)
print("warming up")
print(json.dumps({"status": "pending", "taskId": "film-1"}), flush=True)
sys.stdout.close()
address = "/".join([os.environ["CALLBACK_BASE_URL"], os.environ["PLUGIN_NAME_FOR_CALLBACK"], "film-1"])
body = json.dumps({"requestId": "film-1", "status": "Succeed", "message": asked["command"]}).encode()
urllib.request.urlopen(urllib.request.Request(address, body, {"Content-Type": "application/json"}))
"""
# As they are in the field: they say success, name the task on the way, and stay.
EARLY = {
    "requestId": '{"status": "success", "result": {"requestId": "film-1", "message": "It has begun."}}',
    "taskId": '{"status": "success", "taskId": "film-1", "result": "It has begun."}',
    "placeholder": '{"status": "success", "result": "Write {{VCP_ASYNC_RESULT::VideoGenerator::film-1}}."}',
    "cut": '{"status": "success", "result": "{{VCP_ASYNC_RESULT::X::film-1}} ' + "x" * 70_000 + '"}',
}
STATIC = {
    "name": "WeatherReporter",
    "pluginType": "static",
    "description": "The weather.",
    "entryPoint": {"command": "sh weather.sh"},
    "communication": {"protocol": "stdio"},
    "refreshIntervalCron": "0 */8 * * *",
    "capabilities": {"systemPromptPlaceholders": [{"placeholder": "{{VCPWeatherInfo}}", "description": "x"}]},
}


def install(place: Path, manifest: dict[str, Any], **files: str) -> Path:
    folder = place / "plugins" / str(manifest["name"])
    folder.mkdir(parents=True)
    (folder / "plugin-manifest.json").write_text(json.dumps(manifest, ensure_ascii=False), "utf-8")
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def load(place: Path) -> Plugins:
    plugins = Plugins.load([place / "plugins"], state=place / "state", clock=lambda: SUNDAY)
    plugins.port = 6005
    return plugins


async def test_a_synchronous_one_is_a_tool(place: Path, mock_clock: MockClock) -> None:
    install(place, SYNCHRONOUS, calculator_py=CALCULATOR, config_env="PRECISION=7\n")
    plugins = load(place)
    tool = plugins.tools["SciCalculator"]
    assert (tool.description, tool.max_execution_s, tool.later) == ("expression: 表达式", 15.0, None)
    with net(SAFETY_S):  # its own 15 s do not pass meanwhile
        result = await call_tool(tool, {"expression": "1+1", "precise": True, "digits": 3})
        with pytest.raises(ToolFailed, match="division by zero"):
            await call_tool(tool, {"expression": "1/0"})
    assert result == {
        "asked": {"expression": "1+1", "precise": "true", "digits": "3"},
        "PRECISION": "7",
        "PROJECT_BASE_PATH": str(place / "state/plugins/SciCalculator"),
        "SERVER_PORT": "6005",
        "PYTHONIOENCODING": "utf-8",
        "PLUGIN_NAME_FOR_CALLBACK": "SciCalculator",
    }


async def test_an_asynchronous_one_calls_back(place: Path) -> None:
    install(place, ASYNCHRONOUS, video_py=VIDEO)
    plugins = load(place)
    assert set(plugins.tools) == {"VideoGenerator_submit", "VideoGenerator_query"}
    tool = plugins.tools["VideoGenerator_submit"]
    assert tool.later is not None
    heard: list[tuple[bytes, bytes]] = []

    async def listen(stream: trio.SocketStream) -> None:
        data = b""
        while b"submit" not in data:
            data += await stream.receive_some()
        heard.append((data.split(b"\r\n")[0], data.partition(b"\r\n\r\n")[2]))
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await stream.aclose()

    with trio.fail_after(SAFETY_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(plugins.run)
            (listener,) = await nursery.start(partial(trio.serve_tcp, listen, 0, host="127.0.0.1"))
            port = listener.socket.getsockname()[1]
            address = CallbackAddress(f"http://127.0.0.1:{port}/plugin-callback/~token", "token")
            with flight_of(tool) as flight:
                pending = await tool.call({"prompt": "cats"}, CallContext(flight, address))
            assert isinstance(pending, Pending)
            assert pending.task_id == "film-1"
            while not heard:
                await trio.sleep(0.01)
            assert pending.running is not None
            await pending.running.aclose()
            nursery.cancel_scope.cancel(reason="the test is over")
    ((line, body),) = heard
    assert line == b"POST /plugin-callback/~token/VideoGenerator/film-1 HTTP/1.1"
    assert json.loads(body) == {"requestId": "film-1", "status": "Succeed", "message": "submit"}


@pytest.mark.parametrize("said", list(EARLY))
async def test_an_asynchronous_one_that_says_success_and_stays_is_pending(
    place: Path, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "LINGER_S", 0.0)
    install(
        place,
        {**ASYNCHRONOUS, "entryPoint": {"command": "sh video.sh"}},
        video_sh=f"cat >/dev/null; cat {said}; exec sleep 1000",
        **{said: EARLY[said]},
    )
    plugins = load(place)
    tool = plugins.tools["VideoGenerator_submit"]
    with trio.fail_after(SAFETY_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(plugins.run)
            pending = await call_tool(tool, {})
            assert isinstance(pending, Pending)
            assert pending.task_id == "film-1"
            assert pending.running is not None
            await pending.running.aclose()
            nursery.cancel_scope.cancel(reason="the test is over")


@pytest.mark.parametrize("end", ["", "exec sleep 1000"])
async def test_an_asynchronous_one_that_promises_nothing_has_answered(
    place: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if end:
        monkeypatch.setattr(conversation, "LINGER_S", 0.0)
    answer = EARLY["requestId"] if not end else '{"status": "success", "result": {"requestId": 7}}'
    install(
        place,
        {**ASYNCHRONOUS, "entryPoint": {"command": "sh video.sh"}},
        video_sh=f"cat >/dev/null; echo '{answer}'; {end}",
    )
    plugins = load(place)
    with trio.fail_after(SAFETY_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(plugins.run)
            told = await call_tool(plugins.tools["VideoGenerator_query"], {})
            nursery.cancel_scope.cancel(reason="the test is over")
    assert told["requestId"] in {"film-1", 7}


async def test_a_line_for_the_shell_is_given_to_one(place: Path) -> None:
    line = 'cd "sub folder" && WORD=\'$(x) "y"\' node=1 sh calc.sh 2>/dev/null'
    folder = install(place, {**SYNCHRONOUS, "entryPoint": {"command": line}})
    (folder / "sub folder").mkdir()
    (folder / "sub folder/calc.sh").write_text('printf \'{"status": "success", "result": "%s"}\' ${#WORD}')
    with trio.fail_after(SAFETY_S):
        assert await call_tool(load(place).tools["SciCalculator"], {}) == "8"


async def test_what_is_no_utf_8_is_no_json(place: Path) -> None:
    install(
        place,
        {**SYNCHRONOUS, "entryPoint": {"command": "sh calc.sh"}},
        calc_sh='printf \'{"status": "success", "result": "\\326\\320\\316\\304"}\'',
    )
    with trio.fail_after(SAFETY_S), pytest.raises(ToolFailed, match="answer is not JSON"):
        await call_tool(load(place).tools["SciCalculator"], {})


@pytest.mark.parametrize(
    ("kind", "given", "seconds"),
    [
        ("synchronous", {"timeout": "15000"}, 15.0),
        ("synchronous", {}, 60.0),
        ("synchronous", {"timeout": None}, 60.0),
        ("asynchronous", {}, 1800.0),
    ],
)
def test_a_time_is_milliseconds_or_theirs(
    place: Path, kind: str, given: dict[str, Any], seconds: float
) -> None:
    install(place, {**SYNCHRONOUS, "pluginType": kind, "communication": given})
    assert load(place).tools["SciCalculator"].max_execution_s == seconds


def test_what_is_only_for_people_is_read_as_it_comes(place: Path) -> None:
    change = {"version": 1.1, "displayName": None, "description": None, "name": "Wan2.1VideoGen"}
    install(place, {**SYNCHRONOUS, **change, "capabilities": {"systemPromptPlaceholders": ["{{VCPWan}}"]}})
    plugins = load(place)
    (entry,) = roster(plugins)
    assert (entry["version"], entry["displayName"]) == ("1.1", "Wan2.1VideoGen")
    assert list(plugins.tools) == ["Wan2_1VideoGen"]
    assert plugins.offer.plugins["Wan2.1VideoGen"].placeholders == ("VCPWan",)


async def test_a_static_one_without_an_end_is_cut_and_told_so(place: Path) -> None:
    install(place, STATIC, weather_sh="yes 晴 | tr -d '\\n' | head -c 100000000")
    text = load(place).offer.texts["VCPWeatherInfo"]
    with trio.fail_after(SAFETY_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(text.run, lambda: nursery.cancel_scope.cancel(reason="there it is"))
    told = json.loads(text.value)
    assert told["cut"] == "The result has 100000000 bytes, the limit is 65536: this is its beginning."
    assert set(told["beginning"]) == {'"', "晴"}


async def test_a_static_one_is_a_text_under_its_placeholder(place: Path) -> None:
    install(place, STATIC, weather_sh='echo "晴, 21 °C"; sleep 60 &\n')
    plugins = load(place)
    assert not plugins.tools
    text = plugins.offer.texts["VCPWeatherInfo"]
    assert text is plugins.offer.texts["WeatherReporter"]
    with trio.fail_after(SAFETY_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(text.run, lambda: nursery.cancel_scope.cancel(reason="there it is"))
    assert text.value == "晴, 21 °C"


@pytest.mark.parametrize(("script", "why"), [("exit 4", "exit code 4"), ("echo no key >&2", "no key")])
async def test_a_static_one_that_prints_nothing_says_why(place: Path, script: str, why: str) -> None:
    install(place, STATIC, weather_sh=script)
    text = load(place).offer.texts["VCPWeatherInfo"]
    with trio.fail_after(SAFETY_S), pytest.raises(ToolFailed, match=why):
        await text.run(lambda: None)


@pytest.mark.parametrize("kind", ["service", "hybridservice", "messagePreprocessor"])
def test_modules_of_node_are_listed_and_skipped(place: Path, kind: str) -> None:
    install(place, {"name": "ImageServer", "pluginType": kind, "description": "x"})
    plugins = load(place)
    (entry,) = roster(plugins)
    assert (entry["name"], entry["state"], entry["note"]) == (
        "ImageServer",
        "unsupported",
        "not supported: needs Node",
    )
    assert not plugins.tools
    assert not plugins.faults


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pluginType": "dynamic"}, "pluginType: there is no type 'dynamic'"),
        ({"name": "../evil"}, "name: expected letters"),
        ({"entryPoint": {"command": ""}}, "entryPoint.command: expected a program"),
        ({"entryPoint": {"command": "sh 'x"}}, "entryPoint.command: expected a program"),
        ({"communication": {"timeout": -1}}, "communication.timeout: expected milliseconds"),
        ({"communication": {"timeout": "nan"}}, "communication.timeout: expected milliseconds"),
        ({"communication": {"timeout": 1e30}}, "communication.timeout: expected milliseconds"),
        ({"entryPoint": {"script": "x.js"}}, "entryPoint.command: expected a program"),
        (
            {"communication": {"timeout": "long"}},
            "Expected `float | null`, got `str` - at `$.communication.timeout`",
        ),
        ({"refreshIntervalCron": "now", "pluginType": "static"}, "refresh.cron: expected five fields"),
    ],
)
def test_a_bad_manifest_is_a_fault_with_its_reason(place: Path, change: dict[str, Any], said: str) -> None:
    folder = install(place, {**SYNCHRONOUS, "name": "Bad"})
    (folder / "plugin-manifest.json").write_text(json.dumps({**SYNCHRONOUS, **change}))
    (fault,) = load(place).faults
    assert fault.startswith(f"{folder}/plugin-manifest.json: ")
    assert said in fault


def test_what_is_no_json_is_a_fault(place: Path) -> None:
    folder = install(place, SYNCHRONOUS)
    (folder / "plugin-manifest.json").write_text("{")
    (fault,) = load(place).faults
    assert "malformed" in fault or "truncated" in fault


def test_names_of_functions_fit_openais_rule(place: Path) -> None:
    commands = [{"commandIdentifier": "生成 图片"}, {"command": "b" * 90}, {"command": "编辑"}]
    manifest = {**SYNCHRONOUS, "capabilities": {"invocationCommands": commands}}
    read = read_legacy(install(place, manifest) / "plugin-manifest.json")
    assert list(read.commands) == [
        "SciCalculator__",
        f"SciCalculator_{'b' * 50}",
        "SciCalculator_3",
    ]
