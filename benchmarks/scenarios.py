"""The scenarios: each is one table of the results, with what its columns mean."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from benchmarks.chats import FAST_STREAMS, fast_streams, first_chunk, json_chats, slow_streams
from benchmarks.nodes import IDLE, idle, round_trips
from benchmarks.sides import Ability
from benchmarks.slices import Figures, Slice
from benchmarks.stops import CLOSE_LIMIT_S, disconnects, interrupts


@dataclass(frozen=True)
class Scenario:
    """One table.

    Attributes:
        needs: Which sides can be measured.
        columns: Each figure, and what it means.
        measure: Fills one slice.
        added: The columns that are also shown as the difference to the provider, directly.
    """

    title: str
    needs: Ability
    columns: Mapping[str, str]
    measure: Callable[[Slice], Awaitable[Figures]]
    added: tuple[str, ...] = ()


async def cold_start(part: Slice) -> Figures:
    process = part.target.process
    return {"start s": process.cold_start_s, "RSS MB": process.rss_mb()}


async def memory(part: Slice) -> Figures:
    return {"RSS MB": part.target.process.rss_mb()}


_CHAT = {"p50 ms": "from the request to its whole answer, median", "p99 ms": "the same, 99th percentile"}
_CLOSES = {
    "p50 ms": "until the provider saw its connection closed, median",
    "p99 ms": "the same, 99th percentile",
    "closed %": f"share of the streams whose end the provider saw within {CLOSE_LIMIT_S:.0f} s",
}


def _json_chats(clients: int) -> Scenario:
    return Scenario(
        f"JSON chats, {clients} at a time",
        "json",
        {"per s": "chats answered in a second", **_CHAT},
        partial(json_chats, clients=clients),
        added=("p50 ms", "p99 ms"),
    )


def _round_trips(nodes: int, at_once: int) -> Scenario:
    words = "1 node" if nodes == 1 else f"{nodes} nodes"
    return Scenario(
        f"Tasks of an echo tool, {words}, {at_once} at a time",
        "nodes",
        {
            "per s": "tasks asked for over HTTP, run by a node, answered, each on disk twice",
            "p50 ms": "from the request to its result, median",
            "p99 ms": "the same, 99th percentile",
        },
        partial(round_trips, nodes=nodes, at_once=at_once),
    )


SCENARIOS: Final = (
    Scenario(
        "Cold start",
        "process",
        {
            "start s": "from exec to the line that says it listens",
            "RSS MB": "resident memory then, of all its processes",
        },
        cold_start,
    ),
    # Just-in-time compilers and pools are warm when it counts; nothing of it is shown.
    Scenario("Warm-up", "json", {}, partial(json_chats, clients=4)),
    *map(_json_chats, (1, 16, 64)),
    Scenario(
        "First chunk of a stream",
        "stream",
        {
            "p50 ms": "from the request to its first chunk, one client, median",
            "p99 ms": "the same, 99th percentile",
        },
        first_chunk,
        added=("p50 ms", "p99 ms"),
    ),
    Scenario(
        f"{FAST_STREAMS} streams as fast as they are relayed",
        "stream",
        {"chunks per s": "chunks that reached the clients in a second, all streams together"},
        fast_streams,
    ),
    Scenario(
        "Slow streams, two chunks a second each",
        "stream",
        {
            "CPU %": "of one core, used by the side while all of them flow",
            "p99 late ms": "99th percentile of the gap between two chunks, beyond the provider's 500 ms",
        },
        slow_streams,
    ),
    Scenario(
        "Interrupt: POST /v1/interrupt to the provider's connection closed",
        "interrupt",
        {**_CLOSES, "receipt p50 ms": "from the POST to a receipt that says `stopped`, median"},
        interrupts,
    ),
    *(_round_trips(nodes, at_once) for nodes in (1, 100) for at_once in (1, 64)),
    Scenario(
        f"{IDLE} idle nodes",
        "nodes",
        {
            "KB each": "memory of the hub for each of them, in units of 1e3 bytes",
            "CPU %": "of one core, used by the hub while they do nothing",
            "health p99 ms": "`GET /health` meanwhile, 99th percentile",
        },
        idle,
    ),
    Scenario("Client leaves: its close to the provider's connection closed", "stream", _CLOSES, disconnects),
    Scenario(
        "Memory after all of this", "process", {"RSS MB": "resident memory of all its processes"}, memory
    ),
)
