"""Who is let in, under which name, and who goes.

A node's id belongs to the tenant that first registered it. Who comes with an id that is connected
already does not simply push the other out, or two agents of one name would do so in turn for ever::

    same key and same instance                  replaces at once
    the old connection answers no ping in 2 s   replaces
    it answers, the newcomer has `force`        replaces; the old one is closed 4001
    it answers                                  the newcomer is refused, and let in when the old one leaves

Admission is decided without an await, and told once it is on disk.
"""

from typing import Final, Protocol

import msgspec
import trio

from apexbridge_trio import __version__
from apexbridge_trio.clock import now_ms
from apexbridge_trio.identity import Principal
from apexbridge_trio.ids import new_id
from apexbridge_trio.nodes.link import NodeLink
from apexbridge_trio.nodes.node import Node
from apexbridge_trio.nodes.record import is_same, record_of
from apexbridge_trio.nodes.registry import Registry
from apexbridge_trio.protocol.frames import NodeRegister, NodeRegistered
from apexbridge_trio.store import NodeRecord

# Contract §2.1.
PONG_S: Final = 2.0
# A peer that takes a new id with each connection fills this; who is known already is not hurt.
MOST_NODES: Final = 5000
REPLACED: Final = 4001
# Ours: an administrator has removed the node; what comes back is a new one.
FORGOTTEN: Final = 4003
# A node that is silent for so many of its intervals is gone.
SILENT_INTERVALS: Final = 3


class Work(Protocol):
    """What a node has to do with its coming and going."""

    def resume(self, node: Node, register: NodeRegister) -> dict[str, list[str]]:
        """Go on with what a node that is let in still runs; says what it is to keep and to cancel."""
        ...

    def ready(self, node: Node) -> None:
        """Hear that a node may be told something again."""
        ...

    def away(self, node: Node) -> None:
        """Hear that a node's connection has ended."""
        ...


class Admission:
    """Lets nodes in, and takes note when they go.

    Args:
        registry: The nodes that are known.
        interval_s: Between two heartbeats, where a node does not say.
        work: Hears of their coming and going.
    """

    def __init__(self, registry: Registry, interval_s: float, work: Work) -> None:
        self._registry = registry
        self.interval_s = interval_s
        self._work = work

    def register(self, link: NodeLink, asked: NodeRegister) -> None:
        """Let a node in, refuse it, or find out first whether another connection of its name lives.

        A connection is one node, or waits for one name: its last registration counts.
        """
        self._withdraw(link)
        node_id = asked.node_id or (link.node.id if link.node else new_id("node"))
        node = self._registry.get(node_id)
        if node is not None and not _is_own(link.principal, node):
            link.refuse(_refusal(node_id, "forbidden", "This node id belongs to someone else."))
            return
        if node is None and len(self._registry) >= MOST_NODES:
            link.refuse(_refusal(node_id, "too_many_nodes", "Too many nodes are known; forget some."))
            return
        old = node.link if node else None
        if node is None or old is None or old is link or _is_same(link, asked, old):
            self._admit(link, asked, node_id)
            return
        link.start(self._contest, link, asked, node_id, old, name=f"contest {node_id}")

    async def _contest(self, link: NodeLink, asked: NodeRegister, node_id: str, old: NodeLink) -> None:
        lives = await old.socket.answers(PONG_S)
        node = self._registry.get(node_id)
        if node is None or node.link is not old:  # somebody else came, or the old one left meanwhile
            self.register(link, asked)
        elif not lives or asked.force:
            self._admit(link, asked, node_id)
        else:
            node.suitors.append((link, asked))
            link.refuse(
                _refusal(node_id, "duplicate_node", f"A node {node_id} is connected already; it is alive.")
            )

    def _admit(self, link: NodeLink, asked: NodeRegister, node_id: str) -> None:
        node = self._registry.get(node_id)
        if link.node is not None and link.node is not node:
            self.leave(link, "it goes by another name now")
        record = record_of(node.record if node else None, link, asked, node_id)
        if node is None:
            node = self._registry.add(record)
        old = node.link
        if old is not None and old is not link:
            self._detach(node, "replaced by a newer connection")
            old.end(REPLACED, "replaced by a newer connection")
        was = node.status
        self._take_in(node, link, asked, record)
        if node.on_disk is not None and is_same(node.on_disk, record):
            self._registry.note_back(node)
            self._welcome(node, link, asked, was)
            return
        self._registry.save(
            node,
            lambda: self._welcome(node, link, asked, was),
            failed=lambda _: link.end(1011, "its registration could not be written"),
            by=link.by,
        )

    def _take_in(self, node: Node, link: NodeLink, asked: NodeRegister, record: NodeRecord) -> None:
        node.keep(record)
        node.limits = asked.config.tasks
        node.features = frozenset(asked.features)
        if node.link is not link:
            node.is_ready = False
        node.link, link.node = link, node
        node.heard = msgspec.structs.replace(node.heard, status="online")
        self._registry.offers.changed()

    def _welcome(self, node: Node, link: NodeLink, asked: NodeRegister, was: str) -> None:
        if node.link is not link:  # it left, or was replaced, before this was on disk
            return
        is_new = not node.is_ready
        interval_s = (asked.config.heartbeat.interval_ms or self.interval_s * 1000) / 1000
        resume = self._work.resume(node, asked) if is_new else {"keep": [], "cancel": []}
        node.is_ready, node.away_since = True, None
        node.heard_ms = now_ms()  # a sign of life, as a heartbeat is
        if is_new:
            node.connected_ms = node.heard_ms
            link.start(_measure, node, link, name=f"latency of {node.id}")
        self._registry.offers.changed()
        link.admit(_word_of_welcome(node.id, interval_s, resume), silence_s=interval_s * SILENT_INTERVALS)
        self._registry.note(node, was, "it has registered")
        self._work.ready(node)

    def leave(self, link: NodeLink, reason: str) -> None:
        """Note that a connection has ended; its node is offline, if it was the one it has."""
        node = link.node
        self._withdraw(link)
        if node is None or node.link is not link:
            return
        self._detach(node, reason)
        self._let_in_next(node)

    def _withdraw(self, link: NodeLink) -> None:
        for node in self._registry:
            if node.suitors:
                node.suitors = [suitor for suitor in node.suitors if suitor[0] is not link]

    def _let_in_next(self, node: Node) -> None:
        node.suitors, suitors = [], node.suitors
        for suitor, asked in suitors:
            self.register(suitor, asked)

    def _detach(self, node: Node, reason: str) -> None:
        was = node.status
        node.link, node.is_ready = None, False
        node.away_since = trio.current_time()
        self._registry.note_left(node, reason)
        self._work.away(node)
        self._registry.note(node, was, reason)

    async def drain(self, node: Node, *, is_draining: bool) -> None:
        """Give a node no more tasks, or tasks again; what it runs goes on.

        Raises:
            StoreUnusable: It could not be written; until the next start it counts all the same.
        """
        was = node.status
        node.keep(msgspec.structs.replace(node.record, is_draining=is_draining))
        await self._registry.save(node).wait()
        self._registry.note(node, was, "an administrator wanted it so")
        self._work.ready(node)

    def forget(self, node: Node) -> None:
        """Forget a node, and end its connection (4003); its tasks are lost.

        That is no ban: who has the key may register the name again, as a new node, and an agent that
        is still running does so at once. To keep it out, revoke its key.
        """
        self._registry.drop(node)
        if node.link is not None:
            link, node.link = node.link, None
            link.end(FORGOTTEN, "an administrator has removed this node")
        node.is_ready, node.away_since = False, -float("inf")
        self._work.away(node)
        self._let_in_next(node)


async def _measure(node: Node, link: NodeLink) -> None:
    """Note how long a node takes to be heard when it is pinged."""
    began = trio.current_time()
    if await link.socket.answers(PONG_S):
        node.latency_ms = round((trio.current_time() - began) * 1000, 1)


def _is_own(principal: Principal, node: Node) -> bool:
    mine = node.record
    return principal.tenant_id == mine.tenant_id and principal.family_id in {None, mine.family_id}


def _is_same(link: NodeLink, asked: NodeRegister, old: NodeLink) -> bool:
    """Whether this is the same run of the same agent, which knows best that its old connection is dead.

    A VCP server says nothing of its runs; its newest connection counts (contract §2.2).
    """
    return (link.is_vcp and old.is_vcp) or (
        asked.instance_id is not None
        and asked.instance_id == old.instance_id
        and link.principal.id == old.principal.id
    )


def _refusal(node_id: str, code: str, message: str) -> NodeRegistered:
    return NodeRegistered(node_id, success=False, message=message, code=code)


def _word_of_welcome(node_id: str, interval_s: float, resume: dict[str, list[str]]) -> NodeRegistered:
    return NodeRegistered(
        node_id,
        success=True,
        message="Registered.",
        hub_info={"version": __version__, "llmAvailable": True},
        heartbeat={
            "intervalMs": round(interval_s * 1000),
            "timeoutMs": round(interval_s * SILENT_INTERVALS * 1000),
        },
        resume=resume,
    )
