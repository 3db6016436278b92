"""All nodes the hub knows: who may be which, who is here, and what they offer to whom.

A node's id belongs to the tenant that first registered it. Who comes with an id that is connected
already does not simply push the other out, or two agents of one name would do so in turn for ever::

    same key and same instance                  replaces at once
    the old connection answers no ping in 2 s   replaces
    it answers, the newcomer has `force`        replaces; the old one is closed 4001
    it answers                                  the newcomer is refused, and let in when the old one leaves

Admission is decided without an await, and told once it is on disk.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, Protocol

import msgspec
import trio

from apexbridge_trio import __version__
from apexbridge_trio.errors import NotFound
from apexbridge_trio.identity import Principal
from apexbridge_trio.ids import new_id
from apexbridge_trio.journal import Entry, Journal
from apexbridge_trio.log import get_logger
from apexbridge_trio.nodes.link import NodeLink
from apexbridge_trio.nodes.node import Node
from apexbridge_trio.origin import doing
from apexbridge_trio.protocol.frames import NodeRegister, NodeRegistered, ToolSpec
from apexbridge_trio.store import NodeRecord, NodeRows

# Contract §2.1.
PONG_S: Final = 2.0
# A peer that takes a new id with each connection fills this; who is known already is not hurt.
MOST_NODES: Final = 5000
REPLACED: Final = 4001
# Ours: an administrator has removed the node; what comes back is a new one.
FORGOTTEN: Final = 4003
# Families are named by who asks; those of a house are few, and what is worked out anew is cheap.
MOST_OFFERS: Final = 256
# A node that is silent for so many of its intervals is gone.
SILENT_INTERVALS: Final = 3

log = get_logger("nodes")


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


class Registry:
    """The nodes.

    Args:
        rows: The journal's connection to them.
        interval_s: Between two heartbeats, where a node does not say.
        on_change: Told of each change of a node's status: the node, from, to, why.

    Attributes:
        work: Set once, when the hub is composed.
    """

    work: Work

    def __init__(
        self,
        records: list[NodeRecord],
        rows: NodeRows,
        journal: Journal,
        interval_s: float,
        on_change: Callable[[Node, str, str, str], None],
    ) -> None:
        self._rows = rows
        self._journal = journal
        self.interval_s = interval_s
        self._on_change = on_change
        self._nodes = {record.id: Node(record) for record in records}
        for node in self:
            node.on_disk = node.record
        self._offers: dict[tuple[str, str | None], dict[str, ToolSpec]] = {}

    def __iter__(self) -> Iterator[Node]:
        return iter(list(self._nodes.values()))

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, node_id: str) -> Node | None:
        """Return a node, whoever's it is."""
        return self._nodes.get(node_id)

    def find(self, node_id: str, principal: Principal) -> Node:
        """Return a node.

        Raises:
            NotFound: Unknown, or of someone else.
        """
        node = self._nodes.get(node_id)
        if node is None or not principal.may_see(node.owner):
            raise NotFound(f"There is no node {node_id[:200]}.")
        return node

    def offered(self, owner: Principal) -> dict[str, ToolSpec]:
        """Return the tools that nodes offer to somebody, by name; of equals the first node's by id."""
        key = owner.tenant_id, owner.family_id
        if key not in self._offers:
            if len(self._offers) >= MOST_OFFERS:
                self._offers.clear()
            offer: dict[str, ToolSpec] = {}
            self._offers[key] = offer
            for node in sorted(self._nodes.values(), key=lambda node: node.id):
                if node.serves(owner) and (node.is_up or node.away_since is not None):
                    for name, spec in node.tools.items():
                        offer.setdefault(name, spec)
        return self._offers[key]

    def is_idempotent(self, tool: str, owner: Principal) -> bool:
        """Tell whether a second run of a tool does no harm, on none of the nodes that have it."""
        specs = [
            node.tools[tool] for node in self._nodes.values() if tool in node.tools and node.serves(owner)
        ]
        return bool(specs) and all(spec.idempotent for spec in specs)

    def texts(self, owner: Principal) -> dict[str, str]:
        """Return what nodes have for prompts, by name."""
        found: dict[str, str] = {}
        for node in self._nodes.values():
            if node.texts and node.serves(owner):
                found |= node.texts
        return found

    def register(self, link: NodeLink, asked: NodeRegister) -> None:
        """Let a node in, refuse it, or find out first whether another connection of its name lives.

        A connection is one node, or waits for one name: its last registration counts.
        """
        self._withdraw(link)
        node_id = asked.node_id or (link.node.id if link.node else new_id("node"))
        node = self._nodes.get(node_id)
        if node is not None and not _is_own(link.principal, node):
            link.refuse(_refusal(node_id, "forbidden", "This node id belongs to someone else."))
            return
        if node is None and len(self._nodes) >= MOST_NODES:
            link.refuse(_refusal(node_id, "too_many_nodes", "Too many nodes are known; forget some."))
            return
        old = node.link if node else None
        if node is None or old is None or old is link or _is_same(link, asked, old):
            self._admit(link, asked, node_id)
            return
        link.start(self._contest, link, asked, node_id, old, name=f"contest {node_id}")

    async def _contest(self, link: NodeLink, asked: NodeRegister, node_id: str, old: NodeLink) -> None:
        lives = await old.socket.answers(PONG_S)
        node = self._nodes.get(node_id)
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
        node = self._nodes.get(node_id)
        if link.node is not None and link.node is not node:
            self.leave(link, "it goes by another name now")
        record = _record(node.record if node else None, link, asked, node_id)
        if node is None:
            node = self._nodes[node_id] = Node(record)
        old = node.link
        if old is not None and old is not link:
            self._detach(node, "replaced by a newer connection")
            old.end(REPLACED, "replaced by a newer connection")
        was = node.status
        self._take_in(node, link, asked, record)
        if node.on_disk is not None and _is_same_record(node.on_disk, record):
            self._welcome(node, link, asked, was)
            return
        self._save(
            node,
            lambda: self._welcome(node, link, asked, was),
            failed=lambda _: link.end(1011, "its registration could not be written"),
        )

    def _save(
        self,
        node: Node,
        after: Callable[[], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
    ) -> Entry[None]:
        """Write a node's record as it is now; `after` is called once it is on disk."""
        record, node.on_disk = node.record, None

        def written(_: None) -> None:
            if node.record is record:
                node.on_disk = record
            if after:
                after()

        return self._journal.post(partial(self._rows.save_node, record), written, failed=failed)

    def _take_in(self, node: Node, link: NodeLink, asked: NodeRegister, record: NodeRecord) -> None:
        node.keep(record)
        node.limits = asked.config.tasks
        node.features = frozenset(asked.features)
        if node.link is not link:
            node.is_ready = False
        node.link, link.node = link, node
        node.heard = msgspec.structs.replace(node.heard, status="online")
        self._offers.clear()

    def _welcome(self, node: Node, link: NodeLink, asked: NodeRegister, was: str) -> None:
        if node.link is not link:  # it left, or was replaced, before this was on disk
            return
        is_new = not node.is_ready
        interval_s = (asked.config.heartbeat.interval_ms or self.interval_s * 1000) / 1000
        resume = self.work.resume(node, asked) if is_new else {"keep": [], "cancel": []}
        node.is_ready, node.away_since = True, None
        node.heard_ms = _now_ms()  # a sign of life, as a heartbeat is
        if is_new:
            node.connected_ms = node.heard_ms
            link.start(_measure, node, link, name=f"latency of {node.id}")
        self._offers.clear()
        link.admit(
            NodeRegistered(
                node.id,
                success=True,
                message="Registered.",
                hub_info={"version": __version__, "llmAvailable": True},
                heartbeat={
                    "intervalMs": round(interval_s * 1000),
                    "timeoutMs": round(interval_s * SILENT_INTERVALS * 1000),
                },
                resume=resume,
            ),
            silence_s=interval_s * SILENT_INTERVALS,
        )
        self._say(node, was, "it has registered")
        self.work.ready(node)

    def leave(self, link: NodeLink, reason: str) -> None:
        """Note that a connection has ended; its node is offline, if it was the one it has."""
        node = link.node
        self._withdraw(link)
        if node is None or node.link is not link:
            return
        self._detach(node, reason)
        self._let_in_next(node)

    def _withdraw(self, link: NodeLink) -> None:
        for node in self._nodes.values():
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
        node.keep(msgspec.structs.replace(node.record, left_ms=_now_ms(), left_reason=reason[:200]))
        self._save(node, failed=_log_unwritten)
        self.work.away(node)
        self._say(node, was, reason)

    async def drain(self, node: Node, *, is_draining: bool) -> None:
        """Give a node no more tasks, or tasks again; what it runs goes on.

        Raises:
            StoreUnusable: It could not be written; until the next start it counts all the same.
        """
        was = node.status
        node.keep(msgspec.structs.replace(node.record, is_draining=is_draining))
        await self._save(node).wait()
        self._say(node, was, "an administrator wanted it so")
        self.work.ready(node)

    def forget(self, node: Node) -> None:
        """Forget a node, and end its connection (4003); its tasks are lost.

        That is no ban: who has the key may register the name again, as a new node, and an agent that
        is still running does so at once. To keep it out, revoke its key.
        """
        self._nodes.pop(node.id, None)
        self._offers.clear()
        self._journal.post(partial(self._rows.forget_node, node.id), failed=_log_unwritten)
        if node.link is not None:
            link, node.link = node.link, None
            link.end(FORGOTTEN, "an administrator has removed this node")
        node.is_ready, node.away_since = False, -float("inf")
        self.work.away(node)
        self._let_in_next(node)

    def forget_absence(self, grace_s: float) -> None:
        """Offer nothing more of nodes that have been away for longer."""
        limit = trio.current_time() - grace_s
        for node in self._nodes.values():
            if node.away_since is not None and node.away_since < limit:
                node.away_since = None
                self._offers.clear()

    def note(self, node: Node, was: str, reason: str) -> None:
        """Tell of a status that may have changed."""
        self._say(node, was, reason)

    def _say(self, node: Node, was: str, reason: str) -> None:
        if node.status != was:
            with doing(node.owner):
                log.info("node status", node=node.id, was=was, status=node.status, reason=reason)
            self._on_change(node, was, node.status, reason)


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


def _record(before: NodeRecord | None, link: NodeLink, asked: NodeRegister, node_id: str) -> NodeRecord:
    principal = link.principal
    # A VCP node may come back with its address first; it keeps its tools until it names others.
    kept_tools = before.tools if before and link.is_vcp and not asked.tools else None
    fresh: dict[str, Any] = {
        "id": node_id,
        "tenant_id": before.tenant_id if before else principal.tenant_id,
        "family_id": principal.family_id,
        "principal_id": principal.id,
        "name": asked.name,
        "type": asked.type,
        "version": asked.version,
        "capabilities": msgspec.json.encode(asked.capabilities).decode(),
        "tools": kept_tools or msgspec.json.encode(asked.specs).decode(),
        "instance_id": asked.instance_id,
        "last_seen_ms": _now_ms(),
    }
    if before is not None:
        return msgspec.structs.replace(before, **fresh)
    return NodeRecord(first_seen_ms=_now_ms(), **fresh)


def _is_same_record(one: NodeRecord, other: NodeRecord) -> bool:
    return msgspec.structs.replace(one, last_seen_ms=0) == msgspec.structs.replace(other, last_seen_ms=0)


def _log_unwritten(fault: Exception) -> None:
    log.error("a node's record could not be written", reason=str(fault))


def _now_ms() -> int:
    return int(time.time() * 1000)
