"""The node channel as playbooks: `>>` is what the node says, `<<` what the hub's end makes of it or answers."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbridge_trio.protocol.channel import HubEnd, Ignored, NodeEnd, Rejected
from apexbridge_trio.protocol.envelope import FrameInvalid, frame, read_envelope
from apexbridge_trio.protocol.frames import (
    ConnectionAck,
    Drain,
    Heartbeat,
    LlmRequest,
    NodeLog,
    NodeRegister,
    NodeRegistered,
    NodeUnregistered,
    TaskAssign,
    TaskCancelled,
    TaskResult,
)
from apexbridge_trio.protocol.vcp import VcpEnd, node_id_of

REGISTER = frame(NodeRegister(name="attic", node_id="attic"))
WELCOME = NodeRegistered("attic", success=True, message="Registered.")
RESULT = '{"type":"task_result","data":{"taskId":"t1","result":{"a":1}}}'


def assign(task_id: str = "t1") -> TaskAssign:
    return TaskAssign(
        task_id=task_id,
        node_id="attic",
        tool_name="echo",
        tool_args=msgspec.Raw(b'{"text":"hi"}'),
        timeout=1000,
        remaining_ms=900,
        priority=5,
        attempt=1,
    )


class Playbook:
    """`>>` a frame in, `<<` what it must have become; a `Rejected` is compared by its answer's type."""

    def __init__(self, end: Any) -> None:
        self.end = end
        self.event: Any = None

    def __rshift__(self, text: bytes | str) -> "Playbook":
        self.event = self.end.receive(text)
        return self

    def __lshift__(self, expected: Any) -> "Playbook":
        if isinstance(expected, str):
            assert isinstance(self.event, Rejected), self.event
            assert read_envelope(self.event.reply).type == expected
        elif expected is None:
            assert self.event is None
        else:
            assert isinstance(self.event, expected), self.event
        return self


@pytest.fixture
def hub() -> Playbook:
    return Playbook(HubEnd(lambda: 7))


class TestHub:
    def test_a_node_registers_and_works(self, hub: Playbook) -> None:
        hub >> REGISTER << NodeRegister
        said, held = hub.end.admit("attic", WELCOME)
        assert json.loads(said) == {
            "type": "node_registered",
            "data": {"nodeId": "attic", "success": True, "message": "Registered."},
        }
        assert held == []
        hub >> frame(Heartbeat("attic")) << Heartbeat
        hub >> RESULT << TaskResult
        assert bytes(hub.event.result) == b'{"a":1}'
        hub >> frame(TaskCancelled("t1")) << TaskCancelled
        hub >> frame(NodeLog("hello")) << NodeLog
        hub >> REGISTER << NodeRegister

    @pytest.mark.parametrize(
        ("kind", "data", "answer"),
        [
            (
                "llm_request",
                {"requestId": "r1", "nodeId": "attic", "messages": [], "options": {"stream": True}},
                ("llm_response", {"requestId": "r1", "success": False, "stream": True}),
            ),
            ("llm_request", {"requestId": "r1"}, ("llm_response", {"requestId": "r1", "stream": False})),
            (
                "task_result",
                {"taskId": "t1", "nodeId": 7, "success": "yes"},
                ("task_result_ack", {"taskId": "t1", "nodeId": "", "success": False}),
            ),
            ("heartbeat", {"nodeId": "attic", "load": 7}, ("heartbeat_ack", {"nodeId": "attic"})),
            ("task_result", {"taskId": "a b"}, ("error", {"code": "invalid_payload"})),
            ("llm_request", {"messages": []}, ("error", {"code": "invalid_payload"})),
            ("task_progress", {"taskId": "t1", "progress": 7}, ("error", {"code": "invalid_payload"})),
        ],
    )
    def test_a_frame_with_wrong_fields_is_answered_in_its_own_words(
        self, kind: str, data: dict[str, Any], answer: tuple[str, dict[str, Any]], hub: Playbook
    ) -> None:
        hub >> REGISTER << NodeRegister
        hub.end.admit("attic", WELCOME)
        hub >> json.dumps({"type": kind, "data": data}) << answer[0]
        said = json.loads(hub.event.reply)["data"]
        assert said | answer[1] == said
        assert "invalid_payload" in {said.get("code"), said.get("error", {}).get("code")} or said["message"]

    def test_what_follows_a_registration_is_held_until_it_is_decided(self, hub: Playbook) -> None:
        hub >> REGISTER << NodeRegister
        hub >> RESULT << None
        hub >> frame(Heartbeat("other")) << None
        hub >> REGISTER << "error"
        _, held = hub.end.admit("attic", WELCOME)
        assert isinstance(held[0], TaskResult)
        assert isinstance(held[1], Rejected)

    def test_what_was_held_is_answered_when_it_is_refused(self, hub: Playbook) -> None:
        hub >> REGISTER << NodeRegister
        hub >> RESULT << None
        hub >> frame(LlmRequest(request_id="l1", messages=[{"role": "user"}])) << None
        said = hub.end.refuse(NodeRegistered("attic", success=False, message="no", code="duplicate_node"))
        assert [read_envelope(text).type for text in said] == [
            "node_registered",
            "task_result_ack",
            "llm_response",
        ]
        assert hub.end.state == "refused"
        hub >> REGISTER << NodeRegister

    def test_no_more_is_held_than_there_is_room_for(self, hub: Playbook) -> None:
        hub >> REGISTER
        for _ in range(1000):
            hub >> RESULT << None
        hub >> RESULT << "error"

    def test_nothing_is_taken_of_a_stranger(self, hub: Playbook) -> None:
        hub >> frame(Heartbeat("attic")) << "heartbeat_ack"
        hub >> RESULT << "task_result_ack"
        hub >> frame(LlmRequest(request_id="l1", messages=[{"role": "user"}])) << "llm_response"
        hub >> frame(NodeLog("hello")) << "error"
        hub >> '{"type":"node_register","data":{}}' << "node_registered"

    def test_a_registration_is_changed_only_under_its_own_name(self, hub: Playbook) -> None:
        hub >> REGISTER
        hub.end.admit("attic", WELCOME)
        hub >> frame(NodeRegister(name="x", node_id="other")) << "error"
        hub.end.refuse(NodeRegistered("attic", success=False, message="no"))
        assert hub.end.state == "registered"

    def test_frames_of_the_future_are_ignored(self, hub: Playbook) -> None:
        hub >> '{"type":"teleport","data":{"to":"mars"}}' << Ignored


class TestNode:
    def test_it_takes_part(self) -> None:
        node = Playbook(NodeEnd())
        node >> frame(ConnectionAck("c", "h", "hi", 1)) << ConnectionAck
        node >> frame(assign()) << Rejected
        node.end.register(NodeRegister(name="attic", active_tasks=["t0"]))
        node >> frame(WELCOME) << NodeRegistered
        assert (node.end.state, node.end.node_id) == ("registered", "attic")
        node >> frame(assign()) << TaskAssign
        node >> frame(assign()) << Rejected
        node >> frame(assign("t0")) << Rejected
        node.end.end_task(TaskResult("t1"))
        node >> frame(assign()) << TaskAssign
        node >> frame(Drain()) << Drain
        node >> '{"type":"teleport","data":{}}' << Ignored
        node >> "nonsense" << Rejected
        node >> frame(NodeUnregistered("attic")) << NodeUnregistered
        assert node.end.state == "left"

    def test_it_is_refused(self) -> None:
        node = Playbook(NodeEnd())
        node >> frame(NodeRegistered(None, success=False, message="no")) << NodeRegistered
        assert node.end.state == "refused"

    def test_the_ends_understand_each_other(self) -> None:
        node, hub = NodeEnd(), HubEnd(lambda: 1)
        hub.receive(node.register(NodeRegister(name="茶", node_id="n")))
        said, _ = hub.admit("n", NodeRegistered("n", success=True, message="好"))
        node.receive(said)
        task = node.receive(hub.say(assign()))
        assert isinstance(task, TaskAssign)
        assert bytes(task.tool_args) == b'{"text":"hi"}'
        result = hub.receive(node.say(TaskResult("t1", result=msgspec.Raw('"茶"'.encode()))))
        assert isinstance(result, TaskResult)
        assert "茶".encode() in bytes(result.result)
        assert "茶".encode() in node.register(NodeRegister(name="茶"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
TYPES = st.sampled_from(
    ["node_register", "heartbeat", "task_result", "task_accepted", "task_progress", "task_cancelled",
     "llm_request", "llm_cancel", "log", "node_unregister", "register_tools", "report_ip", "tool_result",
     "update_static_placeholders", "plugin_callback_forward", "unregister_tools", "x"]
)  # fmt: skip
FIELDS = st.sampled_from(
    ["nodeId", "name", "taskId", "requestId", "tools", "messages", "result", "error", "status", "load",
     "serverName", "callbackData", "placeholders", "capabilities", "success", "activeTasks", "options"]
)  # fmt: skip
FRAMES = st.builds(
    lambda kind, data: json.dumps({"type": kind, "data": data}),
    TYPES,
    st.dictionaries(FIELDS, JSON, max_size=5) | JSON,
)


@given(st.lists(FRAMES | st.text(max_size=30) | st.binary(max_size=30), max_size=12), st.booleans())
def test_whatever_comes_is_an_event_or_is_answered(said: list[Any], is_vcp: bool) -> None:
    end = VcpEnd("conn_1") if is_vcp else HubEnd(lambda: 1)
    for text in said:
        event = end.receive(text)
        if isinstance(event, Rejected) and event.reply:
            assert read_envelope(event.reply).type
        if isinstance(event, NodeRegister) and end.state == "registering":
            end.admit(event.node_id or "n", WELCOME)


@given(st.binary(max_size=60) | st.text(max_size=60) | FRAMES)
def test_whatever_the_hub_says_a_node_goes_on(text: Any) -> None:
    NodeEnd().receive(text)


class TestVcp:
    def test_names_become_ids(self) -> None:
        assert node_id_of("nas-1") == "nas-1"
        assert node_id_of("客厅").startswith("vcp-")
        assert node_id_of("a b") != node_id_of("a c")

    def test_what_comes_early_is_held_or_not_taken(self) -> None:
        end = VcpEnd("conn_1")
        result = '{"type":"tool_result","data":{"requestId":"t1","status":"success","result":1}}'
        assert isinstance(end.receive(result), Rejected)
        assert isinstance(end.receive('{"type":"register_tools","data":{"serverName":"nas"}}'), NodeRegister)
        for _ in range(1000):
            assert end.receive(result) is None
        assert isinstance(end.receive(result), Rejected)
        assert end.refuse(WELCOME) == []
        assert end.state == "refused"

    @pytest.mark.parametrize(
        "data",
        [
            {"pluginName": "suno", "taskId": "t1", "data": {"status": "Succeed"}},
            {
                "serverName": "nas",
                "callbackData": {"pluginName": "suno", "requestId": "t1", "status": "Succeed"},
            },
            {"pluginName": "suno", "taskId": "t1", "status": "Succeed"},
        ],
    )
    def test_a_forwarded_callback(self, data: dict[str, Any]) -> None:
        end = VcpEnd("conn_1")
        end.receive('{"type":"register_tools","data":{"serverName":"nas"}}')
        end.admit("nas", WELCOME)
        event: Any = end.receive(json.dumps({"type": "plugin_callback_forward", "data": data}))
        assert (event.plugin, event.task_id) == ("suno", "t1")
        assert b"Succeed" in event.body

    @pytest.mark.parametrize("data", [{}, {"pluginName": "../x", "taskId": "t"}, {"data": "text"}])
    def test_one_that_names_nothing_is_not_taken(self, data: dict[str, Any]) -> None:
        end = VcpEnd("conn_1")
        end.receive('{"type":"register_tools","data":{"serverName":"nas"}}')
        end.admit("nas", WELCOME)
        text = json.dumps({"type": "plugin_callback_forward", "data": data})
        assert isinstance(end.receive(text), Rejected)

    def test_a_result_without_an_id_is_not_taken(self) -> None:
        end = VcpEnd("conn_1")
        end.receive('{"type":"register_tools","data":{"serverName":"nas"}}')
        end.admit("nas", WELCOME)
        assert isinstance(end.receive('{"type":"tool_result","data":{"requestId":"a b"}}'), Rejected)


def test_text_that_is_no_utf8_is_no_frame_also_where_it_is_not_read() -> None:
    with pytest.raises(FrameInvalid):
        read_envelope(b'{"type":"task_result","data":{"taskId":"t1","result":"\xff"}}')


@pytest.mark.parametrize(
    ("kind", "said"), [("heartbeat", {}), ("log", {"message": "x"}), ("task_progress", {"taskId": "t1"})]
)
def test_a_frame_that_needs_no_such_size_is_refused(kind: str, said: dict[str, Any]) -> None:
    hub = HubEnd(lambda: 0)
    hub.receive(frame(NodeRegister(name="attic", node_id="attic")))
    hub.admit("attic", NodeRegistered("attic", success=True, message=""))
    small, large = (json.dumps({"type": kind, "data": said | {"more": ["x"] * n}}) for n in (0, 40_000))
    assert isinstance(hub.receive(large), Rejected)
    assert not isinstance(hub.receive(small), Rejected)


def test_a_result_and_a_question_may_be_large() -> None:
    hub = HubEnd(lambda: 0)
    hub.receive(frame(NodeRegister(name="attic", node_id="attic")))
    hub.admit("attic", NodeRegistered("attic", success=True, message=""))
    text = "x" * 400_000
    for kind, said in (
        ("task_result", {"taskId": "t1", "result": text}),
        ("llm_request", {"requestId": "l1", "messages": [{"role": "user", "content": text}]}),
        ("node_register", {"name": "attic", "nodeId": "attic", "personality": text}),
    ):
        assert not isinstance(hub.receive(json.dumps({"type": kind, "data": said})), Rejected)


def test_an_envelope_that_is_none() -> None:
    with pytest.raises(FrameInvalid):
        read_envelope("[" * 100_000)
