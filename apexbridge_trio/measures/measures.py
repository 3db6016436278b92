"""All that is counted where it happens; what can be read when somebody asks is not here."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from apexbridge_trio.flights import Flight
from apexbridge_trio.histogram import FIRST_TOKEN_S, OPERATION_S, TOKENS
from apexbridge_trio.measures.count import Counts, Histograms
from apexbridge_trio.measures.lag import Lag

# What OpenTelemetry calls one chat.
CHAT: Final = "chat"
# A provider may say anything of what an answer cost; more tokens than this no answer has.
MOST_TOKENS: Final = 10**9


class Measures:
    """The hub's counts.

    As a watcher of flights it counts the calls of models, whoever asked for them.

    Attributes:
        requests: By route and outcome.
        durations: Of requests, by route, seconds.
        answers: Chats, from the request to the end of the answer, by model and fault, seconds.
        first_chunks: Streamed chats, from the request to the first event of the answer, by model, seconds.
        operations: Calls of models, by provider, model and fault, seconds.
        tokens: Of each call, by provider, model and which way.
        sockets: Open WebSockets, by channel.
    """

    def __init__(self) -> None:
        self.lag = Lag()
        self.requests = Counts("route", "outcome")
        self.durations = Histograms("route", bounds=OPERATION_S)
        self.answers = Histograms("gen_ai_request_model", "error_type", bounds=OPERATION_S)
        self.first_chunks = Histograms("gen_ai_request_model", bounds=FIRST_TOKEN_S)
        told_by = ("gen_ai_provider_name", "gen_ai_request_model")
        self.operations = Histograms(*told_by, "error_type", bounds=OPERATION_S)
        self.tokens = Histograms(*told_by, "gen_ai_token_type", bounds=TOKENS)
        self.sockets = Counts("channel")

    def request(self, route: str, outcome: str, duration_s: float) -> None:
        """Count a request that has ended."""
        self.requests.add((route, outcome))
        self.durations.add((route,), duration_s)

    def answer(self, model: str, fault: str, duration_s: float, first_chunk_s: float | None) -> None:
        """Count a chat that has ended.

        Args:
            model: As the hub offers it.
            fault: Why it failed, in one of our own words; empty if it did not.
            duration_s: All of it.
            first_chunk_s: When the first event of a stream was sent; None: there was none.
        """
        self.answers.add((model, fault), duration_s)
        if first_chunk_s is not None:
            self.first_chunks.add((model,), first_chunk_s)

    @contextmanager
    def socket(self, channel: str) -> Iterator[None]:
        """Count a WebSocket as open inside the block."""
        self.sockets.add((channel,))
        try:
            yield
        finally:
            self.sockets.add((channel,), -1)

    def begun(self, flight: Flight) -> None:
        """Take no note: what runs is in the tree."""

    def left(self, flight: Flight) -> None:
        """Count a call of a model that has ended."""
        facts = flight.facts
        if flight.kind != "upstream" or "gen_ai.provider.name" not in facts or flight.ended is None:
            return
        told_by = facts["gen_ai.provider.name"], facts["gen_ai.request.model"]
        self.operations.add((*told_by, flight.outcome), flight.ended - flight.started)
        for way in ("input", "output"):
            if (tokens := facts.get(f"gen_ai.usage.{way}_tokens")) is not None:
                self.tokens.add((*told_by, way), tokens)


def usage_facts(usage: Any) -> dict[str, int]:
    """Return what a provider says that an answer has cost, under OpenTelemetry's names."""
    if not isinstance(usage, dict):
        return {}
    named = {"input": usage.get("prompt_tokens"), "output": usage.get("completion_tokens")}
    return {
        f"gen_ai.usage.{way}_tokens": count
        for way, count in named.items()
        if type(count) is int and 0 <= count <= MOST_TOKENS
    }
