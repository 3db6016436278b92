"""All nodes the hub knows: whose they are, what is kept of them, and how they stand."""

from collections.abc import Callable, Iterator
from functools import partial

import msgspec
import trio

from apexbridge_trio.audit import Actor
from apexbridge_trio.clock import now_ms
from apexbridge_trio.errors import NotFound
from apexbridge_trio.identity import Principal
from apexbridge_trio.journal import Entry, Journal
from apexbridge_trio.log import get_logger
from apexbridge_trio.nodes.node import Node
from apexbridge_trio.nodes.offers import Offers
from apexbridge_trio.nodes.record import is_away
from apexbridge_trio.origin import doing
from apexbridge_trio.store import NodeRecord, NodeRows

log = get_logger("nodes")


class Registry:
    """The nodes.

    Args:
        rows: The journal's connection to them.
        on_change: Told of each change of a node's status: the node, from, to, why.

    Attributes:
        offers: What they offer, and to whom.
        noting: Asked, for a node that registers, for what notes it in the audit: that is called in the
            transaction that writes it, if it is the first of its id.
    """

    def __init__(
        self,
        records: list[NodeRecord],
        rows: NodeRows,
        journal: Journal,
        on_change: Callable[[Node, str, str, str], None],
    ) -> None:
        self._rows = rows
        self._journal = journal
        self._on_change = on_change
        self.noting: Callable[[NodeRecord, Actor], Callable[[], None]] = lambda _record, _by: _nothing
        self._nodes = {record.id: Node(record) for record in records}
        for node in self:
            node.on_disk = node.record
        self.offers = Offers(self._nodes.values())

    def __iter__(self) -> Iterator[Node]:
        return iter(list(self._nodes.values()))

    def __len__(self) -> int:
        return len(self._nodes)

    def told(self) -> Iterator[tuple[NodeRecord, str, int | None]]:
        """Yield each node with the status that was told last, and when, if that was in this hub.

        One that is being let in is none of them: in a moment it is told.
        """
        for node in self:
            if node.link is None or node.is_ready:
                yield node.record, node.told, node.told_ms

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

    def add(self, record: NodeRecord) -> Node:
        """Know a new node; nothing of it is on disk yet."""
        node = self._nodes[record.id] = Node(record)
        return node

    def drop(self, node: Node) -> None:
        """Know a node no more."""
        self._nodes.pop(node.id, None)
        self.offers.changed()
        self._journal.post(partial(self._rows.forget_node, node.id), failed=_log_unwritten)

    def save(
        self,
        node: Node,
        after: Callable[[], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
        by: Actor | None = None,
    ) -> Entry[None]:
        """Write a node's record as it is now.

        Args:
            node: Whose.
            after: Called once it is on disk.
            failed: Called instead, with why it is not.
            by: Who registers it; None: nobody does.
        """
        record, node.on_disk = node.record, None
        note = self.noting(record, by) if by is not None else _nothing

        def work() -> None:
            if self._rows.save_node(record):
                note()

        def written(_: None) -> None:
            if node.record is record:
                node.on_disk = record
            if after:
                after()

        return self._journal.post(work, written, failed=failed)

    def note_left(self, node: Node, reason: str) -> None:
        """Keep when a node's connection has ended, and why."""
        # Not before it came, nor does it come before it left, whatever the clock does: see `is_away`.
        left_ms = max(now_ms(), node.record.last_seen_ms)
        node.keep(msgspec.structs.replace(node.record, left_ms=left_ms, left_reason=reason[:200]))
        self.save(node, failed=_log_unwritten)

    def note_back(self, node: Node) -> None:
        """Keep that a node is here again, if the disk says that it has left; it waits for that not.

        A hub that starts would take one for away since then that was here when the hub ended.
        """
        if node.on_disk is not None and is_away(node.on_disk):
            self.save(node, failed=_log_unwritten)

    def forget_absence(self, grace_s: float) -> None:
        """Offer nothing more of nodes that have been away for longer."""
        limit = trio.current_time() - grace_s
        for node in self._nodes.values():
            if node.away_since is not None and node.away_since < limit:
                node.away_since = None
                self.offers.changed()

    def note(self, node: Node, was: str, reason: str) -> None:
        """Tell of a status that may have changed."""
        if node.status != was:
            node.told, node.told_ms = node.status, now_ms()
            with doing(node.owner):
                log.info("node status", node=node.id, was=was, status=node.status, reason=reason)
            self._on_change(node, was, node.status, reason)


def _nothing() -> None:
    """Note nothing."""


def _log_unwritten(fault: Exception) -> None:
    log.error("a node's record could not be written", reason=str(fault))
