"""Who runs a task."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbridge_trio.errors import NoNode, Overloaded
from apexbridge_trio.identity import Principal
from apexbridge_trio.nodes.node import Node
from apexbridge_trio.nodes.queue import TaskQueue, choose
from apexbridge_trio.nodes.task import NodeTask
from apexbridge_trio.protocol.frames import Heartbeat, TaskLimits
from apexbridge_trio.store import NodeRecord, NodeTaskRecord

ME = Principal("me")


def node(name: str, *tools: str, most: int = 2, **fields: Any) -> Node:
    known: dict[str, Any] = {
        "type": "worker",
        "capabilities": "[]",
        "family_id": None,
        "tenant_id": "default",
    }
    record = NodeRecord(
        id=name,
        principal_id="key",
        name=name,
        version="",
        tools=msgspec.json.encode([{"name": tool} for tool in tools or ("echo",)]).decode(),
        instance_id=None,
        first_seen_ms=0,
        last_seen_ms=0,
        **{**known, **fields},
    )
    made = Node(record)
    made.limits = TaskLimits(most)
    made.link, made.is_ready = object(), True  # type: ignore[assignment]
    return made


_number = iter(range(10**9))


def task(tool: str = "echo", owner: Principal = ME, **fields: Any) -> NodeTask:
    record = NodeTaskRecord(
        id=f"task_{next(_number)}",
        tool=tool,
        args=b"{}",
        timeout_ms=1,
        created_ms=0,
        deadline_ms=1,
        principal_id=owner.id,
        tenant_id=owner.tenant_id,
        family_id=owner.family_id,
        **fields,
    )
    return NodeTask(record, owner, 1.0)


class TestChoice:
    def test_the_least_loaded_is_chosen(self) -> None:
        a, b, c = node("a"), node("b"), node("c", most=4)
        a.tasks["x"] = c.tasks["y"] = task()
        b.tasks |= {"z": task(), "zz": task()}
        assert choose([a, b, c], task()) is c

    def test_of_equals_the_load_decides_and_then_the_id(self) -> None:
        a, b = node("a"), node("b")
        assert choose([b, a], task()) is a
        a.heard = Heartbeat(load=0.5)
        assert choose([b, a], task()) is b
        b.heard = Heartbeat(status="busy")
        assert choose([b, a], task()) is a

    @pytest.mark.parametrize(
        ("fields", "found"),
        [
            ({}, True),
            ({"wanted_node": "a"}, True),
            ({"wanted_node": "b"}, False),
            ({"capability": "gpu"}, True),
            ({"capability": "worker"}, True),
            ({"capability": "arm"}, False),
        ],
    )
    def test_what_is_asked_for(self, fields: dict[str, Any], found: bool) -> None:
        able = node("a", capabilities='["gpu"]')
        assert (choose([able], task(**fields)) is able) == found

    def test_a_node_without_tools_is_asked_by_capability_or_name(self) -> None:
        bare = node("a", capabilities='["gpu"]')
        bare.keep(msgspec.structs.replace(bare.record, tools="[]"))
        assert choose([bare], task()) is None
        assert choose([bare], task(capability="gpu")) is bare
        assert choose([bare], task(wanted_node="a")) is bare
        assert choose([bare], task("gpu")) is bare

    def test_tenants_and_families_do_not_meet(self) -> None:
        theirs, family = node("a", tenant_id="b"), node("b", family_id="f")
        assert choose([theirs, family], task()) is None
        assert choose([theirs, family], task(owner=Principal("x", "b"))) is theirs
        assert choose([theirs, family], task(owner=Principal("x", "default", "f"))) is family
        assert choose([theirs, family], task(owner=Principal("x", "default", "g"))) is None

    def test_who_can_not_take_one_is_not_chosen(self) -> None:
        full, draining, leaving, gone = node("a", most=1), node("b", is_draining=True), node("c"), node("d")
        full.tasks["x"] = task()
        leaving.heard = Heartbeat(status="offline")
        gone.link = None
        assert choose([full, draining, leaving, gone], task()) is None
        assert [one.status for one in (full, draining, leaving, gone)] == [
            "busy",
            "draining",
            "draining",
            "offline",
        ]


class TestQueue:
    def test_it_is_bounded(self) -> None:
        one = node("a", most=1)
        queue = TaskQueue([one], 1)
        first, second = task(), task()
        queue.enter(first)
        queue.enter(second)
        with pytest.raises(Overloaded):
            queue.enter(task())
        with pytest.raises(NoNode):
            queue.enter(task("other"))
        queue.release(first)
        assert second.node is one
        assert len(queue) == 0

    @given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=40), st.integers(1, 3))
    def test_slots_are_given_once_and_in_order(self, asked: list[tuple[int, bool]], most: int) -> None:
        one = node("a", most=most)
        queue = TaskQueue([one], 1000)
        tasks = []
        for priority, leaves in asked:
            made = task(priority=priority)
            queue.enter(made)
            if leaves and made.node is None:
                queue.discard(made)
            else:
                tasks.append(made)
        assert len(one.tasks) == min(most, len(tasks))
        order = []
        while one.tasks:
            assert len(one.tasks) <= most
            done = next(iter(one.tasks.values()))
            order.append(done)
            queue.release(done)
        assert len(order) == len(tasks)
        waited = order[most:]
        assert [one.record.priority for one in waited] == sorted(
            (one.record.priority for one in waited), reverse=True
        )
        assert all(made.granted.is_set() for made in tasks)
