"""What nodes offer, and to whom."""

from collections.abc import Collection
from typing import Final

from apexbridge_trio.identity import Principal
from apexbridge_trio.nodes.node import Node
from apexbridge_trio.protocol.frames import ToolSpec

# Families are named by who asks; those of a house are few, and what is worked out anew is cheap.
MOST_OFFERS: Final = 256


class Offers:
    """What each family is offered; each chat asks, so it is worked out once.

    Args:
        nodes: Those that are known, as they are at each moment.
    """

    def __init__(self, nodes: Collection[Node]) -> None:
        self._nodes = nodes
        self._tools: dict[tuple[str, str | None], dict[str, ToolSpec]] = {}

    def tools(self, owner: Principal) -> dict[str, ToolSpec]:
        """Return the tools that nodes offer to somebody, by name; of equals the first node's by id."""
        key = owner.tenant_id, owner.family_id
        if key not in self._tools:
            if len(self._tools) >= MOST_OFFERS:
                self._tools.clear()
            self._tools[key] = self._work_out(owner)
        return self._tools[key]

    def _work_out(self, owner: Principal) -> dict[str, ToolSpec]:
        offer: dict[str, ToolSpec] = {}
        for node in sorted(self._nodes, key=lambda node: node.id):
            if node.serves(owner) and (node.is_up or node.away_since is not None):
                for name, spec in node.tools.items():
                    offer.setdefault(name, spec)
        return offer

    def changed(self) -> None:
        """Hear that a node offers something else, came, or is gone for good."""
        self._tools.clear()

    def is_idempotent(self, tool: str, owner: Principal) -> bool:
        """Tell whether a second run of a tool does no harm, on none of the nodes that have it."""
        specs = [node.tools[tool] for node in self._nodes if tool in node.tools and node.serves(owner)]
        return bool(specs) and all(spec.idempotent for spec in specs)

    def texts(self, owner: Principal) -> dict[str, str]:
        """Return what nodes have for prompts, by name."""
        found: dict[str, str] = {}
        for node in self._nodes:
            if node.texts and node.serves(owner):
                found |= node.texts
        return found
