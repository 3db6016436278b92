"""Legacy folders: what their manifests mean, and one of each type run as it is."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.plugins import CallbackAddress, CallContext, Pending, Plugins, roster
from apexbridge_trio.plugins.legacy import read_legacy
from tests.plugins.folders import SUNDAY, call_tool, flight_of
from tests.plugins.programs import SAFETY_S

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


async def test_a_synchronous_one_is_a_tool(place: Path) -> None:
    install(place, SYNCHRONOUS, calculator_py=CALCULATOR, config_env="PRECISION=7\n")
    plugins = load(place)
    tool = plugins.tools["SciCalculator"]
    assert (tool.description, tool.max_execution_s, tool.later) == ("expression: 表达式", 15.0, None)
    with trio.fail_after(SAFETY_S):
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
        (
            {"communication": {"timeout": "long"}},
            "Expected `float`, got `str` - at `$.communication.timeout`",
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
    commands = [{"commandIdentifier": "生成 图片"}, {"command": "b" * 90}]
    manifest = {**SYNCHRONOUS, "capabilities": {"invocationCommands": commands}}
    read = read_legacy(install(place, manifest) / "plugin-manifest.json")
    assert list(read.commands) == ["SciCalculator__", f"SciCalculator_{'b' * 50}"]
