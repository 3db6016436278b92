import msgspec
import pytest
from msgspec import Raw

from apexbridge_trio.agent import outcome
from apexbridge_trio.agent.outcome import arguments_of, callback_of, done, of_fault
from apexbridge_trio.errors import DeadlinePassed, Interrupted, ToolFailed, ToolTimeout
from apexbridge_trio.plugins import CallbackAddress, Pending
from apexbridge_trio.protocol.frames import TaskAssign
from tests.fakes.nodes_hub import why

BASE = "https://hub.example/plugin-callback/~apx_cb_token"


def assign(arguments: bytes) -> TaskAssign:
    return TaskAssign(
        task_id="t", node_id="n", tool_name="echo", tool_args=Raw(arguments), timeout=1, remaining_ms=1, priority=5, attempt=1
    )  # fmt: skip


def test_results_and_pending_answers():
    assert bytes(done("t", {"a": "ü"}, 1.0).result) == '{"a":"ü"}'.encode()
    assert bytes(done("t", Pending("p-1"), 1.0).result) == b'{"status":"pending","taskId":"p-1"}'


def test_results_that_can_not_be_sent(monkeypatch):
    assert why(done("t", object(), 1.0)).code == "tool_failed"
    monkeypatch.setattr(outcome, "MOST_RESULT_BYTES", 10)
    assert why(done("t", "x" * 20, 1.0)).code == "result_too_large"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Interrupted("stop"), "interrupted"),
        (DeadlinePassed("late"), "timeout"),
        (ToolTimeout("slow"), "tool_timeout"),
        (ToolFailed("no"), "tool_failed"),
        (ToolFailed("no", code="invalid_arguments"), "invalid_arguments"),
        (outcome.ToolUnknown("what"), "tool_not_found"),
    ],
)
def test_faults_keep_their_codes(fault, code):
    result = of_fault("t", fault, 2.0)
    assert (result.success, why(result).code, why(result).message) == (False, code, fault.message)
    assert msgspec.json.decode(msgspec.json.encode(result))["executionTime"] == 2.0


def test_arguments():
    assert arguments_of(assign(b'{"a": 1}')) == {"a": 1}
    for wrong in (b"[1]", b"null", b'{"a":', b"[" * 5000):
        with pytest.raises(ToolFailed) as raised:
            arguments_of(assign(wrong))
        assert raised.value.code == "invalid_arguments"


def test_a_callback_is_split_at_its_token():
    found = callback_of({"mode": "http", "url": f"{BASE}/echo/task_1"})
    assert found == CallbackAddress(BASE, "apx_cb_token")


@pytest.mark.parametrize(
    "callback",
    [
        None,
        {},
        {"mode": "ws"},
        {"mode": "http"},
        {"mode": "http", "url": 7},
        {"mode": "http", "url": BASE},
        {"mode": "http", "url": f"{BASE}/echo"},
        {"mode": "http", "url": "http://hub/plugin-callback/echo/task_1"},
        {"mode": "http", "url": f"file://{BASE}/echo/task_1"},
        {"mode": "http", "url": f"{BASE}/echo/task_1?x"},
    ],
)
def test_what_is_no_callback_gives_none(callback):
    assert callback_of(callback) is None
