import pytest
from msgspec import Raw

from apexbridge_trio.protocol.channel import HubEnd, NodeEnd
from apexbridge_trio.protocol.frames import NodeRegister, NodeRegistered, TaskResult
from apexbridge_trio.protocol.vcp import VcpEnd


@pytest.mark.parametrize("json", [b'{"a":1}', b'"text"', b"[1]", b"1.5", b"true", b"null"])
def test_a_result_of_any_kind_reaches_the_hub(json):
    node, hub = NodeEnd(), HubEnd(lambda: 0)
    hub.receive(node.register(NodeRegister(name="attic")))
    hub.admit("node_1", NodeRegistered("node_1", success=True, message=""))
    heard = hub.receive(node.end_task(TaskResult("task_1", result=Raw(json))))
    assert isinstance(heard, TaskResult)
    assert bytes(heard.result) == json


@pytest.mark.parametrize("json", [b'{"a":1}', b'"text"'])
def test_a_result_of_the_other_dialect_too(json):
    hub = VcpEnd("old")
    assert hub.receive(b'{"type":"register_tools","data":{"serverName":"old","tools":[]}}')
    hub.admit("old", NodeRegistered("old", success=True, message=""))
    heard = hub.receive(b'{"type":"tool_result","data":{"requestId":"task_1","result":%b}}' % json)
    assert isinstance(heard, TaskResult)
    assert bytes(heard.result) == json
