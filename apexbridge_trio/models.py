"""The model table: which id is answered by whom, with which of the hub's tools.

An id is one of `[[models]]`, the embedded model, or what a provider lists itself. Providers are
asked for their lists at most once a minute each (`Upstream.models`), and a dead one keeps what it
last had.

A table is of one config. Another config has another table, in which a provider whose entry is the
same is the same one; a request goes on with the table it began with.
"""

import difflib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Literal

import msgspec
import trio
from msgspec import Raw, Struct

from apexbridge_trio import config
from apexbridge_trio.errors import ModelNotFound, UpstreamError, UpstreamRefused
from apexbridge_trio.protocol.answer import Answer, Asked, Source, unasked
from apexbridge_trio.protocol.openai import MAX_MODEL_CHARS, encode
from apexbridge_trio.upstream import Upstream

ToolChoice = Literal["all", "none"] | list[str]


class Target(Struct, frozen=True):
    """A source, and the model's name there."""

    source: Source
    name: str


class Model(Struct, frozen=True):
    """One row of the table.

    Attributes:
        targets: Whom to ask, in order; the next one is asked when the one before fails unheard.
        tools: Which hub tools it is offered.
        system: Put before the conversation, if not empty.
    """

    id: str
    targets: tuple[Target, ...]
    owner: str
    tools: ToolChoice = "none"
    system: str = ""

    @asynccontextmanager
    async def open_answer(
        self, fields: Mapping[str, Raw], facts: dict[str, Any], asked: Asked = unasked
    ) -> AsyncIterator[Answer]:
        """Ask the first target that answers; nothing is asked again once bytes have come.

        Args:
            fields: Of the request.
            facts: Of the flight that asks: is told whom.
            asked: As for `Source.open_answer`.

        Raises:
            UpstreamError: Of the last target, or that the request itself was refused.
        """
        async with AsyncExitStack() as stack:
            for number, target in enumerate(self.targets, 1):
                body = encode({**fields, "model": target.name})
                facts["gen_ai.provider.name"] = target.source.name
                facts["gen_ai.request.model"] = target.name
                try:
                    opened = target.source.open_answer(body, target.name, asked)
                    answer = await stack.enter_async_context(opened)
                    break
                except UpstreamError as fault:
                    if _is_the_requests_own(fault) or number == len(self.targets):
                        raise
            yield answer


def _is_the_requests_own(fault: UpstreamError) -> bool:
    """Whether another provider would refuse the request too."""
    return isinstance(fault, UpstreamRefused) and fault.status < 500


class ModelTable:
    """Find models by id and list them.

    Attributes:
        upstreams: The providers, by name; the table closes them.
        found: Names of those that were found while running.

    Args:
        models: The `[[models]]` of the config.
        upstreams: The providers, by name.
        embedded: The model that needs no provider.
    """

    def __init__(
        self, models: Iterable[config.Model], upstreams: Mapping[str, Upstream], embedded: Source
    ) -> None:
        self.upstreams = dict(upstreams)
        self.found: set[str] = set()
        self._embedded = embedded
        self._found: dict[str, Model] = {}
        own = Model(embedded.name, (Target(embedded, embedded.name),), "apexbridge", tools="all")
        entries = list(models)
        first = {entry.id: self._target(entry) for entry in entries}
        self._fixed = {own.id: own}
        for entry in entries:
            spare = [first[id_] if id_ in first else own.targets[0] for id_ in entry.fallback]
            targets = (first[entry.id], *spare)
            self._fixed[entry.id] = Model(entry.id, targets, entry.upstream, entry.tools, entry.system)

    def _target(self, entry: config.Model) -> Target:
        return Target(self.upstreams[entry.upstream], entry.name or entry.id)

    def add_upstream(self, upstream: Upstream) -> None:
        """Offer the models of a provider that was found while running."""
        self.upstreams[upstream.name] = upstream
        self.found.add(upstream.name)

    def successor(
        self, made: config.Config, make_upstream: Callable[[config.Upstream], Upstream]
    ) -> "ModelTable":
        """Return the table of another config; nothing is opened, and this one stays as it is.

        Raises:
            ConfigInvalid: A provider of it can not be used.
        """
        upstreams: dict[str, Upstream] = {}
        for entry in made.upstreams:
            known = self.upstreams.get(entry.name)
            upstreams[entry.name] = known if known and known.config == entry else make_upstream(entry)
        table = ModelTable(made.models, upstreams, self._embedded)
        if made.chat.find_local and not made.upstreams:
            for name in self.found:
                table.add_upstream(self.upstreams[name])
        table._found = {
            id_: model
            for id_, model in self._found.items()
            if table.upstreams.get(model.owner) is self.upstreams.get(model.owner)
        }
        return table

    def close(self, successor: "ModelTable | None" = None) -> None:
        """Close what the providers hold open; what they answer now, they end.

        Args:
            successor: The table that takes this one's place: its providers are left open.
        """
        kept = successor.upstreams.values() if successor else ()
        for upstream in self.upstreams.values():
            if upstream not in kept:
                upstream.close()

    async def all(self) -> list[Model]:
        """Return every model; providers that have not answered lately are asked side by side.

        Cancellation: what was learnt so far stays learnt.
        """
        async with trio.open_nursery() as nursery:
            for upstream in self.upstreams.values():
                nursery.start_soon(self._discover, upstream, name=f"models of {upstream.name}")
        return [
            *self._fixed.values(),
            *(found for id_, found in self._found.items() if id_ not in self._fixed),
        ]

    async def _discover(self, upstream: Upstream) -> None:
        names = await upstream.models()
        kept = {id_: model for id_, model in self._found.items() if model.owner != upstream.name}
        listed = {name: self._listed(upstream, name) for name in names}
        self._found = listed | kept

    def _listed(self, upstream: Upstream, name: str) -> Model:
        return Model(name, (Target(upstream, name),), upstream.name, upstream.config.tools)

    async def find(self, model_id: str) -> Model:
        """Return the model of that id; providers are only asked for one that is not known.

        Raises:
            ModelNotFound: With the nearest ids there are.
        """
        if model := self._fixed.get(model_id) or self._found.get(model_id):
            return model
        known = {model.id: model for model in await self.all()}
        if model := known.get(model_id):
            return model
        near = difflib.get_close_matches(model_id, known, n=3, cutoff=0.4) or sorted(known)[:3]
        raise ModelNotFound(
            f"There is no model {model_id[:MAX_MODEL_CHARS]!r}; the nearest are {', '.join(near)}.",
            param="model",
        )


def with_system(messages: Raw, system: str) -> Raw:
    """Put the model's own system prompt before a conversation."""
    if not system:
        return messages
    rest: Sequence[Raw] = msgspec.json.decode(messages, type=list[Raw])
    return Raw(encode([{"role": "system", "content": system}, *rest]))
