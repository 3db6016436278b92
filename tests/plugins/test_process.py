"""The process runtime with real processes: what is said, and what is not let through."""

import json
import resource
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from apexbridge_trio import log
from apexbridge_trio.errors import ConfigInvalid, ToolFailed, ToolTimeout
from apexbridge_trio.plugins import CallbackAddress, CallContext, Plugins, conversation, process
from apexbridge_trio.plugins.process import find_command
from apexbridge_trio.plugins.sandbox import Sandbox
from apexbridge_trio.plugins.voice import MAX_LINES
from tests.harness.clock import elapse
from tests.plugins.folders import SUNDAY
from tests.plugins.programs import NODE, Bench, open_bench, write_program

# What a program has said last is told with its exit.
pytestmark = pytest.mark.usefixtures("patient")

MIB = 1024 * 1024


async def fault(bench: Bench, **arguments: Any) -> ToolFailed:
    with pytest.raises(ToolFailed) as caught:
        await bench.call(**arguments)
    return caught.value


async def test_arguments_go_in_and_a_document_comes_out(place: Path) -> None:
    code = """
given = json.load(sys.stdin)
print("getting ready {")
print(json.dumps({"given": given, "tool": os.environ["APEXBRIDGE_TOOL"], "in": os.getcwd()}, indent=2))
sys.exit(3)
"""
    async with open_bench(place, code) as bench:
        told = await bench.call(text='你好 }{"\\')
        assert told == {
            "given": {"text": '你好 }{"\\'},
            "tool": "echo",
            "in": str(place / "plugins/echo"),
        }


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ("echo.sh", 'read line; echo "$line"\n'),
        pytest.param(
            "echo.mjs",
            "process.stdin.on('data', (data) => console.log(data.toString()))\n",
            marks=pytest.mark.skipif(NODE is None, reason="no Node here"),
        ),
        pytest.param(
            "echo.js",
            "require('fs').writeSync(1, require('fs').readFileSync(0))\n",
            marks=pytest.mark.skipif(NODE is None, reason="no Node here"),
        ),
    ],
)
async def test_an_entry_is_run_by_its_ending(place: Path, entry: str, code: str) -> None:
    async with open_bench(place, code, entry=entry, limits="max_memory_mb = 256\n") as bench:
        assert await bench.call(a=1) == {"a": 1}


def test_an_entry_must_be_there_and_have_something_to_run_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "tool"
    with pytest.raises(ConfigInvalid, match="there is no file tool"):
        find_command(tmp_path, "tool")
    program.write_text("#!/bin/sh\n")
    with pytest.raises(ConfigInvalid, match="not executable, and its ending is none of"):
        find_command(tmp_path, "tool")
    program.chmod(0o755)
    assert find_command(tmp_path, "tool") == (str(program),)
    (tmp_path / "x.js").touch()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigInvalid, match="needs node, which is not installed"):
        find_command(tmp_path, "x.js")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("", "The plugin ended without an answer (exit code 0)."),
        ("sys.exit('no luck today')", "The plugin ended without an answer (exit code 1): no luck today"),
        ("os.kill(os.getpid(), 9)", "The plugin ended without an answer (exit code -9)."),
        ("print('hello')", "The plugin's answer is not JSON: hello"),
        ("print('{\"a\": ')", 'The plugin\'s answer is not JSON: {"a":'),
        ("answer({'status': 'error', 'error': 'no such song'})", "no such song"),
        ("answer({'status': 'failed', 'message': 'not now'})", "not now"),
        ("answer({'status': 'failed', 'error': {'code': 7}})", '{"code":7}'),
        ("answer({'status': 'failed'})", "The plugin reports a failure."),
        ("sys.exit('see /srv/secret/file.txt')", "The plugin ended without an answer (exit code 1): see …"),
    ],
)
async def test_what_is_no_result_is_said(place: Path, code: str, said: str) -> None:
    async with open_bench(place, code) as bench:
        assert (await fault(bench)).message == said


async def test_one_that_will_say_no_more_and_stays_is_ended(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "LINGER_S", 0.0)
    async with open_bench(place, "os.close(1); stay()") as bench:
        assert (await fault(bench)).message == "The plugin ended without an answer."


async def test_a_program_that_can_not_be_started_is_said(place: Path) -> None:
    async with open_bench(place, "answer({})") as bench:
        entry = place / "plugins/echo/echo.py"
        entry.unlink()
        assert "can't open file" in (await fault(bench)).message
        (place / "plugins/echo").rename(place / "gone")
        assert (await fault(bench)).message == "The plugin could not be run: No such file or directory."


async def test_a_file_that_is_no_program_is_said(place: Path) -> None:
    async with open_bench(place, "no program\n", entry="tool") as bench:
        assert (await fault(bench)).message == "The plugin could not be run: Exec format error."


async def test_an_executable_file_is_run_as_it_is(place: Path) -> None:
    async with open_bench(place, "#!/bin/cat\n", entry="tool") as bench:
        assert (await fault(bench)).message == "The plugin's answer is not JSON: #!…"


@pytest.mark.parametrize("keys", ["", 'type = "hybrid"\n'])
@pytest.mark.parametrize("around", [("", ""), ('{"a": ', "}")])
async def test_a_document_nested_without_end_is_the_plugin_s_fault(
    place: Path, keys: str, around: tuple[str, str]
) -> None:
    start, end = around
    code = f"print({start!r} + '[' * 20000 + ']' * 20000 + {end!r})"
    async with open_bench(place, code, keys=keys, limits="allow_network = true\n") as bench:
        assert (await fault(bench)).message.startswith("The plugin's answer is not JSON: ")


async def test_a_command_that_can_not_be_is_the_plugin_s_fault(place: Path) -> None:
    async with open_bench(place, "answer({})", env=f"WORD={'x' * 200_000}\n") as bench:
        assert (await fault(bench)).message == "The plugin could not be run: Argument list too long."


async def test_a_process_that_exits_before_it_reads_stdin(place: Path) -> None:
    async with open_bench(place, "answer({'read': False})") as bench:
        assert await bench.call(text="x" * 10 * MIB) == {"read": False}


async def test_a_process_that_never_reads_ten_megabytes_of_stdin(place: Path, mock_clock: MockClock) -> None:
    async with open_bench(place, "here(); stay()", limits="max_execution_s = 5\n") as bench:

        async def call() -> None:
            assert isinstance(await fault(bench, text="x" * 10 * MIB), ToolTimeout)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await bench.roll.called(1)
            elapse(mock_clock, 5)
        assert bench.roll.alive() == 0


async def test_a_process_that_fills_its_stderr(place: Path) -> None:
    code = "sys.stderr.write('y' * 1000000 + ('z' * 99 + chr(10)) * 100000); answer({'said': 'much'})"
    async with open_bench(place, code) as bench:
        with log.capture() as lines:
            assert await bench.call() == {"said": "much"}
    said = [line for line in lines if line["event"] == "plugin said"]
    assert len(said) == MAX_LINES
    assert all(len(line["text"]) <= 1000 for line in said)
    assert {(line["plugin"], line["call"]) for line in said} == {("echo", "req_test/echo")}
    (more,) = [line for line in lines if line["event"] == "plugin said more"]
    assert more["lines"] > 100_000 - MAX_LINES


async def test_a_token_is_not_logged(place: Path) -> None:
    code = "print(os.environ['CALLBACK_BASE_URL'], os.environ['PLUGIN_NAME_FOR_CALLBACK'], file=sys.stderr); answer({})"
    async with open_bench(place, code) as bench:
        with log.capture() as lines:
            await bench.call(CallbackAddress("http://hub/plugin-callback/~tok_en", "tok_en"))
    assert [line["text"] for line in lines] == ["http://hub/plugin-callback/~*** echo"]


@pytest.mark.parametrize(("start", "end"), [('{"a": "', '"}'), ('["', '"]'), ('"', '"')])
async def test_a_hundred_megabytes_of_output_are_cut_and_never_held(
    place: Path, start: str, end: str
) -> None:
    # Its own stream writes on when it was stopped in between; that of an unbuffered Python leaves the rest.
    code = f"""
with open(1, "wb", closefd=False) as out:
    out.write({start!r}.encode())
    for _ in range(100):
        out.write(b"x" * {MIB})
    out.write({end!r}.encode())
"""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with open_bench(place, code) as bench:
        told = await bench.call()
    size = 100 * MIB + len(start) + len(end)
    assert told["cut"] == f"The result has {size} bytes, the limit is 65536: this is its beginning."
    assert told["beginning"] == (start + "x" * 65536)[:65536]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024, "kilobytes"


async def test_a_hundred_megabytes_that_are_no_json_are_refused(place: Path) -> None:
    code = f"for _ in range(100): sys.stdout.write('x' * {MIB})"
    async with open_bench(place, code) as bench:
        assert (await fault(bench)).message == "The plugin's answer is not JSON: " + "x" * 200


async def test_content_parts_are_a_result_like_any_other(place: Path) -> None:
    parts = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    async with open_bench(place, f"answer({parts!r})") as bench:
        assert await bench.call() == parts


@pytest.mark.parametrize(
    ("entry", "code", "said"),
    [
        ("echo.py", "x = bytearray(512 << 20); answer({})", "MemoryError"),
        pytest.param(
            "echo.js",
            "let x = []; for (;;) x.push(new Array(1e6).fill(1.5))",
            "without an answer (exit code -",
            marks=pytest.mark.skipif(NODE is None, reason="no Node here"),
        ),
    ],
)
async def test_memory_has_a_limit(place: Path, entry: str, code: str, said: str) -> None:
    async with open_bench(place, code, entry=entry, limits="max_memory_mb = 256\n") as bench:
        assert said in (await fault(bench)).message


CONNECT = """
try:
    socket.create_connection(("127.0.0.1", int(os.environ["PORT"])), timeout=5).close()
    answer({"network": True})
except OSError as fault:
    answer({"network": False})
"""


@pytest.mark.parametrize("allowed", [False, True])
async def test_the_network_is_off_unless_allowed(place: Path, allowed: bool) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        env = f"PORT={listener.socket.getsockname()[1]}"
        limits = f"allow_network = {str(allowed).lower()}\n"
        async with open_bench(place, CONNECT, env=env, limits=limits) as bench:
            if bench.plugins.notes:
                pytest.skip("this machine makes no network namespaces")
            assert await bench.call() == {"network": allowed}


async def test_the_environment_has_no_key_of_the_hub(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APEXBRIDGE_KEY", "apx_0123456789")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:pass@proxy")
    async with open_bench(place, "answer(dict(os.environ))", env="OWN_KEY='a b'  \n") as bench:
        env = await bench.call()
    assert env["OWN_KEY"] == "a b"
    assert env["HOME"] == env["APEXBRIDGE_STATE"] == str(bench.state)
    assert env["APEXBRIDGE_CALL"].startswith("call_")
    ours = {"HOME", "OWN_KEY", "ROLL", "LC_CTYPE", "PWD", "_", "PYTHONIOENCODING", "PYTHONUNBUFFERED"}
    passed = {"PATH", "LANG", "LANGUAGE", "LC_ALL", "TZ", "TMPDIR", "PYTHONDONTWRITEBYTECODE"}
    assert set(env) - ours - passed == {"APEXBRIDGE_CALL", "APEXBRIDGE_STATE", "APEXBRIDGE_TOOL"}
    assert "apx_" not in json.dumps(env)


async def test_a_process_can_not_gain_privileges_and_has_no_descriptor_of_the_hub(place: Path) -> None:
    code = """
status = open("/proc/self/status").read()
answer({"fds": sorted(os.listdir("/proc/self/fd")), "no_new_privs": "NoNewPrivs:\\t1" in status,
        "leads": os.getpid() == os.getsid(0) == os.getpgid(0), "core": __import__("resource").getrlimit(4)})
"""
    async with open_bench(place, code) as bench:
        told = await bench.call()
    assert len(told["fds"]) == 4, "three streams and the listing itself"
    assert (told["no_new_privs"], told["leads"], told["core"]) == (True, True, [0, 0])


async def test_calls_over_the_limit_wait(place: Path) -> None:
    code = """
mark = os.environ["APEXBRIDGE_STATE"] + "/running"
os.mkdir(mark)
time.sleep(0.05)
os.rmdir(mark)
answer({})
"""
    async with open_bench(place, code, limits="max_concurrency = 1\n") as bench:
        tool = bench.plugins.tools["echo"]
        with bench.open() as flight:
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(tool.call, {}, CallContext(flight))


def written(place: Path, state: Path) -> dict[Path, int]:
    """Everything in a place, but for one directory, and when it was changed."""
    return {path: path.stat().st_mtime_ns for path in place.rglob("*") if not path.is_relative_to(state)}


async def test_a_call_writes_nothing_outside_of_its_state_directory(place: Path) -> None:
    code = "import helper; open(os.environ['HOME'] + '/kept', 'w').close(); answer({})"
    async with open_bench(place, code) as bench:
        (place / "plugins/echo/helper.py").touch()
        before = written(place, bench.state)
        assert await bench.call() == {}
        assert written(place, bench.state) == before
        assert (bench.state / "kept").exists()


@pytest.mark.parametrize("strict", [True, False])
async def test_a_machine_that_can_not_cut_the_network_is_said_so(
    place: Path, monkeypatch: pytest.MonkeyPatch, strict: bool
) -> None:
    monkeypatch.setattr(process, "probe", lambda: Sandbox(can_cut_network=False, cgroup=None))
    write_program(place / "echo", "answer({})")
    write_program(place / "open", "answer({})", limits="allow_network = true\n")
    manifest = place / "open/plugin.toml"
    manifest.write_text(manifest.read_text().replace('"echo"', '"open"'))
    plugins = Plugins.load([place], state=place / "state", clock=lambda: SUNDAY, strict=strict)
    note = "its network can not be cut on this machine: processes may not make network namespaces"
    assert set(plugins.tools) == ({"open"} if strict else {"echo", "open"})
    assert plugins.notes == ({} if strict else {"echo": note})
    assert plugins.faults == ([f"{place}/echo/plugin.toml: limits.allow_network: {note}"] if strict else [])
