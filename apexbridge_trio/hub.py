"""The hub: a frozen record of its rooms, and all that an edge may touch."""

from dataclasses import dataclass

from apexbridge_trio.background import Backgrounds
from apexbridge_trio.config import Config
from apexbridge_trio.flights import Flights
from apexbridge_trio.identity import Keys
from apexbridge_trio.intents import IntentModel
from apexbridge_trio.models import ModelTable
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
    keys: Keys
    embedded: IntentModel
    started: float

    @property
    def toolbox(self) -> Toolbox:
        """What plugins offer now; a turn keeps the one it began with."""
        offer = self.plugins.offer
        return Toolbox(offer.tools, self.pendings, {name: text.value for name, text in offer.texts.items()})
