"""The hub: a frozen record of its rooms, and all that an edge may touch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trio
from msgspec import Raw, Struct
from msgspec.structs import replace

from apexbridge_trio.audit import Audit
from apexbridge_trio.background import Backgrounds
from apexbridge_trio.chat import Turn
from apexbridge_trio.clock import WallClock
from apexbridge_trio.config import Config
from apexbridge_trio.daybook import DayBook
from apexbridge_trio.errors import BadRequest
from apexbridge_trio.events import Events
from apexbridge_trio.flights import Flights
from apexbridge_trio.identity import Keys, Principal
from apexbridge_trio.intents import IntentModel
from apexbridge_trio.journal import Journal
from apexbridge_trio.keyring import Keyring
from apexbridge_trio.limits import Held, Limiter
from apexbridge_trio.logs import Logs
from apexbridge_trio.measures import Measures
from apexbridge_trio.models import ModelTable
from apexbridge_trio.nodes import Nodes
from apexbridge_trio.notices import Notices
from apexbridge_trio.openings import Openings
from apexbridge_trio.pending import Pendings
from apexbridge_trio.plugins import Plugins
from apexbridge_trio.protocol.client import InterruptRequest
from apexbridge_trio.protocol.openai import ChatRequest
from apexbridge_trio.push import Push
from apexbridge_trio.reminders import Reminders
from apexbridge_trio.settings import Settings, Snapshot
from apexbridge_trio.stopping import stop_task
from apexbridge_trio.switches import Switches
from apexbridge_trio.tools import Toolbox
from apexbridge_trio.tracing import Tracer
from apexbridge_trio.triggers import Triggers


class Hub(Struct, frozen=True):
    """Everything a request can need.

    Attributes:
        settings: The config that is in force, and how it changes.
        limiter: What each key may take; its limits are those of now.
        daybook: What was used of each day's tokens, over restarts.
        clock: The one on the wall, and how far it is believed.
        journal: The one writer; its `trouble` says why nothing can be written now.
        started: Trio time at which the hub was composed, seconds.
        state: The state directory.
        tracer: None, where nothing is traced.
        snapshot: What one request keeps to; None: what is in force at each moment. See `pinned`.
    """

    settings: Settings
    audit: Audit
    clock: WallClock
    events: Events
    logs: Logs
    flights: Flights
    journal: Journal
    backgrounds: Backgrounds
    plugins: Plugins
    pendings: Pendings
    nodes: Nodes
    notices: Notices
    reminders: Reminders
    triggers: Triggers
    keys: Keys
    limiter: Limiter
    daybook: DayBook
    keyring: Keyring
    openings: Openings
    embedded: IntentModel
    started: float
    state: Path
    measures: Measures
    switches: Switches
    tracer: Tracer | None
    snapshot: Snapshot | None = None

    def pinned(self) -> "Hub":
        """Return the hub as one request sees it: with the config and the models of now, whatever changes."""
        return replace(self, snapshot=self.settings.current)

    @property
    def config(self) -> Config:
        """The config: of this moment, or the request's own."""
        return (self.snapshot or self.settings.current).config

    @property
    def models(self) -> ModelTable:
        """The models of the config."""
        return (self.snapshot or self.settings.current).models

    def toolbox(self, owner: Principal, node_id: str | None = None) -> Toolbox:
        """What plugins and nodes offer somebody now; a turn keeps the one it began with.

        Of one name, the hub's own tool comes first; with `node_id`, that node's.

        Raises:
            NotFound: There is no such node, for them.
        """
        offer, theirs = self.plugins.offer, self.nodes.tools(owner, node_id)
        tools = {**offer.tools, **theirs} if node_id else {**theirs, **offer.tools}
        texts = {name: text.value for name, text in offer.texts.items()}
        return Toolbox(
            tools, self.pendings, {**self.nodes.registry.offers.texts(owner), **texts}, self._plugin_failed
        )

    def _plugin_failed(self, owner: Principal, said: dict[str, Any]) -> None:
        self.events.publish("plugin.failed", owner, said)

    async def turn(self, owner: Principal, request: ChatRequest, fields: Mapping[str, Raw]) -> Turn:
        """Make the turn that answers a request.

        Raises:
            NotFound: There is no such model or node, for them.
        """
        model = await self.models.find(self.model_of(request))
        toolbox = self.toolbox(owner, request.apex.node)
        spend = self.limiter.spender(owner.id)
        return Turn(request, fields, model, toolbox, self.config.chat.max_rounds, spend=spend)

    def hold_chat(self, owner: Principal, request: ChatRequest) -> Held:
        """Take the place of a chat in its owner's share, before it begins.

        Raises:
            QuotaUsed: The owner's tokens of today are used up.
            TooMany: The owner has as many chats in flight as may be.
        """
        return self.limiter.hold_chat(owner.id, is_stream=bool(request.stream), now=trio.current_time())

    def model_of(self, request: ChatRequest) -> str:
        """Return the name of the model that a request is for."""
        return request.model or self.config.chat.default_model

    def timeout_of(self, request: ChatRequest) -> float:
        """Return the deadline of the whole answer, in seconds from now."""
        return request.apex.timeout_s or self.config.chat.timeout_s

    def push(self, owner: Principal, request_id: str, request: ChatRequest) -> Push:
        """Return what tells a chat to its owner's devices."""
        return Push(self.events, owner, request_id, self.model_of(request))

    async def interrupt(self, asked: InterruptRequest, principal: Principal) -> dict[str, Any]:
        """Stop what somebody names, and return the receipt.

        Raises:
            BadRequest: They name nothing.
            Forbidden: They name a tenant or a family that is not theirs.
            NotFound: Unknown, finished on its own, or of someone else.
            TaskSettled: A task that has ended already.
        """
        principal = principal.narrowed(tenant_id=asked.tenant_id, family_id=asked.family_id)
        path = asked.path or asked.request_id or asked.message_id
        if path is not None:
            return await self.flights.interrupt(path, principal, asked.reason).receipt(asked.wait_s)
        if asked.task_id is not None:
            return await stop_task(self, asked.task_id, principal, asked.reason, asked.wait_s)
        raise BadRequest("Say what to stop: requestId, messageId, taskId or path.", param="requestId")
