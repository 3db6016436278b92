"""The live tree as OpenTelemetry sees it: a span for each flight, below that of its parent.

The library is imported where an endpoint is configured (the extra `otel`). It sends in a thread of its
own and keeps at most `MOST_WAITING` spans: a collector that is slow or gone costs traces, never a
request. A span says what was done, for how long and how it ended; not what was said, and no key.

A request that comes with a ``traceparent`` is a part of that trace, and is recorded if its sender
records it. Its context travels with the task, so what is begun for it later belongs to it too.
"""

import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from apexbridge_trio import __version__
from apexbridge_trio.config import Tracing
from apexbridge_trio.errors import ConfigInvalid
from apexbridge_trio.flights import Flight, Flights
from apexbridge_trio.installation import remedy
from apexbridge_trio.log import get_logger

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

PATH: Final = "/v1/traces"
# About 1 KB each; what comes when it is full pushes the oldest out.
MOST_WAITING: Final = 2048
# For one batch, and for the rest of them when the hub ends, seconds.
SEND_S: Final = 5.0
CLOSE_S: Final = 3.0
MISSING: Final = f"tracing.endpoint needs a library that is not installed: {remedy('otel')}"

_traceparent: ContextVar[tuple[str, str] | None] = ContextVar("traceparent", default=None)

log = get_logger("tracing")


def came_with(traceparent: str | None, tracestate: str | None) -> None:
    """Note, for this task and those it starts, to which trace the request under way belongs."""
    _traceparent.set((traceparent, tracestate or "") if traceparent else None)


class Tracer:
    """Makes a span of each flight; a watcher.

    Args:
        exporter: Sends spans.
        service: What the hub is called in traces.
    """

    def __init__(self, exporter: "SpanExporter", service: str) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        named = Resource.create({"service.name": service, "service.version": __version__})
        self._provider = TracerProvider(resource=named, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=MOST_WAITING))
        self._tracer = self._provider.get_tracer("apexbridge", __version__)
        self._extract: Callable[[dict[str, str]], Context] = TraceContextTextMapPropagator().extract
        self._spans: dict[Flight, Span] = {}

    def begun(self, flight: Flight) -> None:
        """Begin the flight's span."""
        from opentelemetry.trace import SpanKind, set_span_in_context

        above = self._spans.get(flight.parent) if flight.parent else None
        kind = SpanKind.SERVER if flight.parent is None else SpanKind.INTERNAL
        if flight.kind == "upstream":
            kind = SpanKind.CLIENT
        self._spans[flight] = self._tracer.start_span(
            flight.kind if flight.parent is None else flight.name,
            context=set_span_in_context(above) if above is not None else self._incoming(),
            kind=kind,
            attributes=_first_facts(flight),
        )

    def left(self, flight: Flight) -> None:
        """End it, and say how: a span whose status nobody sets would look well after an interrupt."""
        from opentelemetry.trace import Status, StatusCode

        span = self._spans.pop(flight, None)
        if span is None:
            return
        span.set_attributes(flight.facts)
        if (name := _name(flight)) is not None:
            span.update_name(name)
        if flight.is_unconfirmed:
            span.set_attribute("apex.confirmed", value=False)
        if flight.outcome:
            span.set_attribute("error.type", flight.outcome)
            span.set_status(Status(StatusCode.ERROR, flight.outcome))
        else:
            span.set_status(Status(StatusCode.OK))
        span.end()

    def close(self) -> None:
        """Send what is left, for at most `CLOSE_S` seconds; the hub has ended, so it may block."""
        # The library's own end waits 30 s for a collector that is gone.
        ending = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        ending.start()
        ending.join(CLOSE_S)
        if ending.is_alive():
            log.warning("spans were left unsent", waited_s=CLOSE_S)

    def _incoming(self) -> "Context":
        came = _traceparent.get()
        return self._extract({"traceparent": came[0], "tracestate": came[1]} if came else {})


@contextmanager
def traced(config: Tracing, flights: Flights) -> Iterator[Tracer | None]:
    """Trace the flights inside the block, where an endpoint is configured.

    Raises:
        ConfigInvalid: The library is not there.
    """
    if not config.endpoint:
        yield None
        return
    tracer = Tracer(_exporter(config.endpoint), config.service_name)
    flights.watchers.append(tracer)
    try:
        yield tracer
    finally:
        flights.watchers.remove(tracer)
        tracer.close()


def _exporter(endpoint: str) -> "SpanExporter":
    try:
        http = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        importlib.import_module("opentelemetry.sdk.trace.export")
    except ImportError:
        raise ConfigInvalid(MISSING) from None
    url = endpoint.rstrip("/")
    exporter: SpanExporter = http.OTLPSpanExporter(
        endpoint=url if url.endswith(PATH) else url + PATH, timeout=SEND_S
    )
    return exporter


def _first_facts(flight: Flight) -> dict[str, Any]:
    facts = {"apex.kind": flight.kind, "apex.path": flight.path}
    if flight.parent is None:
        facts |= {"apex.request_id": flight.name, "apex.tenant_id": flight.owner.tenant_id}
    if flight.kind == "upstream":
        facts["gen_ai.operation.name"] = "chat"
    return facts


def _name(flight: Flight) -> str | None:
    """Return the name that OpenTelemetry wants for such a span; what it takes is known at its end."""
    if model := flight.facts.get("gen_ai.request.model"):
        return f"chat {model}"
    if tool := flight.facts.get("gen_ai.tool.name"):
        return f"execute_tool {tool}"
    return None
