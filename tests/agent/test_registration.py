import msgspec
from msgspec import structs

from apexbridge_trio import __version__, log
from apexbridge_trio.agent.registration import Profile, first_of, registration, specs_of
from apexbridge_trio.plugins import Later
from apexbridge_trio.protocol.frames import MAX_TOOLS, NodeRegister, ToolSpec
from tests.harness.world import Tool


def tool(name: str) -> Tool:
    return Tool(name, None, False)


def test_a_tool_is_told_with_all_that_the_hub_needs():
    late = tool("late")
    late.later = Later()
    assert specs_of({"ping": tool("ping"), "late": late}) == [
        ToolSpec("ping", "For a test.", {"type": "object"}, idempotent=True, plugin="test", later=False),
        ToolSpec("late", "For a test.", {"type": "object"}, idempotent=True, plugin="test", later=True),
    ]


def test_tools_that_the_hub_would_not_take_are_left_out_and_logged():
    tools = {name: tool(name) for name in ["bad name", *(f"t{n}" for n in range(MAX_TOOLS + 1))]}
    tools["t0"].description = "x" * 5000
    with log.capture() as lines:
        specs = specs_of(tools)
    assert (len(specs), len(specs[0].description)) == (MAX_TOOLS, 4000)
    assert [line["tools"] for line in lines] == [["bad name"], [f"t{MAX_TOOLS}"]]


def test_the_registration_is_one_that_the_hub_reads():
    profile = Profile(node_id="n", name="attic", capabilities=("gpu",), max_concurrent=2)
    made = registration(profile, specs_of({"ping": tool("ping")}), ["task_1"], {"activeTasks": 0})
    read = msgspec.json.decode(msgspec.json.encode(made), type=NodeRegister)
    assert read == made
    assert (read.version, read.active_tasks, read.features) == (__version__, ["task_1"], ["task_cancel"])
    assert (read.config.tasks.max_concurrent, read.config.heartbeat.interval_ms) == (2, 10_000)
    assert read.instance_id == profile.instance_id != Profile(node_id="n", name="attic").instance_id


def test_a_registration_too_large_for_a_stranger_goes_without_tools_first():
    profile = Profile(node_id="n", name="attic")
    specs = [ToolSpec(f"t{n}", "x" * 4000) for n in range(20)]
    whole = registration(profile, specs, ["task_1"], {})
    assert first_of(whole) == structs.replace(whole, tools=[])
    small = registration(profile, specs[:2], [], {})
    assert first_of(small) is small
