"""Connections that want more than one name, or a name that is forgotten: none is at two nodes."""

from pathlib import Path

import trio

from apexbridge_trio.nodes import Node
from apexbridge_trio.protocol.frames import NodeRegistered
from tests.harness.node import connected, joined, key_for
from tests.harness.world import World, open_world
from tests.nodes.test_api import Admin
from tests.nodes.test_calls import settled
from tests.nodes.test_vcp import vcp


def node_of(world: World, name: str) -> Node:
    node = world.hub.nodes.registry.get(name)
    assert node is not None
    return node


async def test_a_vcp_server_that_changes_its_name_leaves_no_ghost(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world:
        async with vcp(world) as server:
            await server.register("one")
            await server.register("two")
            await settled(lambda: world.hub.nodes.registry.get("two") is not None)
            await settled(lambda: node_of(world, "two").status == "online")
            assert node_of(world, "one").status == "offline"
        await settled(lambda: node_of(world, "two").status == "offline")


async def test_one_that_was_refused_a_name_and_took_another_does_not_get_the_first_later(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world, connected(world) as other:
        async with joined(world, "attic") as first:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(first.close_code)
                assert (await other.register("attic")).code == "duplicate_node"
                assert (await other.register("cellar")).success
                nursery.cancel_scope.cancel()
        await trio.sleep(5)
        assert node_of(world, "cellar").status == "online"
        assert node_of(world, "attic").status == "offline"


async def test_one_that_asks_for_a_name_again_and_again_waits_once(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world, joined(world, "attic") as first, connected(world) as other:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.close_code)
            for _ in range(5):
                assert (await other.register("attic")).code == "duplicate_node"
            assert len(node_of(world, "attic").suitors) == 1
            nursery.cancel_scope.cancel()


async def test_who_waits_for_a_name_gets_it_when_it_is_forgotten(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world, joined(world, "attic") as first, connected(world) as other:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.close_code)
            assert (await other.register("attic")).code == "duplicate_node"
            assert (await Admin(world).ask("DELETE", "/v1/nodes/attic")).status == 200
            with trio.fail_after(5):
                assert (await other.hear(NodeRegistered)).success
            assert node_of(world, "attic").status == "online"
            nursery.cancel_scope.cancel()


async def test_a_forgotten_node_is_told_so_and_may_come_back_as_a_new_one(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world:
        key, admin = key_for(world, "node"), Admin(world)
        async with joined(world, "attic", key) as node:
            await admin.ask("POST", "/v1/nodes/attic/drain")
            assert (await admin.ask("DELETE", "/v1/nodes/attic")).status == 200
            assert await node.close_code() == 4003
        async with joined(world, "attic", key):
            assert node_of(world, "attic").status == "online"


async def test_a_registration_is_a_sign_of_life(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world, "attic"):
        shown = (await Admin(world).ask("GET", "/v1/nodes/attic")).json
        assert shown["lastHeartbeatAt"] is not None
