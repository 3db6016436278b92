"""The hub: a frozen record of its rooms, and all that an edge may touch."""

from dataclasses import dataclass

from apexbridge_trio.background import Backgrounds
from apexbridge_trio.config import Config
from apexbridge_trio.flights import Flights
from apexbridge_trio.identity import Keys, Principal
from apexbridge_trio.intents import IntentModel
from apexbridge_trio.models import ModelTable
from apexbridge_trio.nodes import Nodes
from apexbridge_trio.pending import Pendings
from apexbridge_trio.plugins import Plugins
from apexbridge_trio.tools import Toolbox


@dataclass(frozen=True)
class Hub:
    """Everything a request can need.

    Attributes:
        started: Trio time at which the hub was composed, seconds.
    """

    config: Config
    flights: Flights
    backgrounds: Backgrounds
    models: ModelTable
    plugins: Plugins
    pendings: Pendings
    nodes: Nodes
    keys: Keys
    embedded: IntentModel
    started: float

    def toolbox(self, owner: Principal, node_id: str | None = None) -> Toolbox:
        """What plugins and nodes offer somebody now; a turn keeps the one it began with.

        Of one name, the hub's own tool comes first; with `node_id`, that node's.

        Raises:
            NotFound: There is no such node, for them.
        """
        offer, theirs = self.plugins.offer, self.nodes.tools(owner, node_id)
        tools = {**offer.tools, **theirs} if node_id else {**theirs, **offer.tools}
        texts = {name: text.value for name, text in offer.texts.items()}
        return Toolbox(tools, self.pendings, {**self.nodes.registry.texts(owner), **texts})
