"""How the rooms are: read when somebody asks."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import trio

from apexbridge_trio.hub import Hub
from apexbridge_trio.metrics.families import Family, counter, gauge, histogram, one
from apexbridge_trio.nodes import Node
from apexbridge_trio.plugins import roster

# Ids of nodes are chosen by who has a key for one; those after so many are told of as one, "other".
MOST_NODES: Final = 200
_CIRCUITS: Final = ("closed", "open", "half-open")
_STATUSES: Final = ("online", "busy", "draining", "offline")
_CALLS: Final = ("succeeded", "failed", "stopped")


def room_families(hub: Hub) -> list[Family]:
    """Return flights, queues, upstreams, plugins, nodes, events and the journal."""
    return [*_flights(hub), *_queues(hub), *_upstreams(hub), *_plugins(hub), *_nodes(hub), *_told(hub)]


def _flights(hub: Hub) -> Iterator[Family]:
    kinds = Counter(flight.kind for flight in hub.flights.all())
    yield gauge("apexbridge_flights", "What is in flight, by kind.", ["kind"], _labelled(kinds))
    yield one("apexbridge_draining", "1 while the hub drains.", hub.flights.is_draining)
    yield one("apexbridge_uptime_seconds", "Since the hub began.", trio.current_time() - hub.started)


def _queues(hub: Hub) -> Iterator[Family]:
    lengths = {
        "backgrounds": len(hub.backgrounds),
        "callbacks": len(hub.pendings),
        "journal": len(hub.journal),
        "node_tasks": hub.nodes.tasks.queued,
    }
    says = "What waits: background chats kept, calls that answer later, writes, tasks for a node."
    yield gauge("apexbridge_queue_length", says, ["queue"], _labelled(lengths))


def _upstreams(hub: Hub) -> Iterator[Family]:
    all_ = list(hub.models.upstreams.values())
    attempts = [((up.name, word), number) for up in all_ for word, number in up.attempts.items()]
    says = "Requests to providers, retries included, by outcome."
    yield counter("apexbridge_upstream_requests", says, ["upstream", "outcome"], attempts)
    retries = [((up.name,), up.retries) for up in all_]
    yield counter("apexbridge_upstream_retries", "Requests that were made again.", ["upstream"], retries)
    states = [((up.name, word), up.circuit == word) for up in all_ for word in _CIRCUITS]
    yield gauge("apexbridge_upstream_circuit", "1 at its state.", ["upstream", "state"], states)
    slots = [(up.name, up.slots) for up in all_]
    used = [((name,), found.borrowed_tokens) for name, found in slots]
    yield gauge("apexbridge_upstream_slots_used", "Answers that are open.", ["upstream"], used)
    limits = [((name,), found.total_tokens) for name, found in slots]
    yield gauge("apexbridge_upstream_slots_limit", "Most of them.", ["upstream"], limits)
    waiting = [((name,), found.tasks_waiting) for name, found in slots]
    yield gauge("apexbridge_upstream_slots_waiting", "Who waits for one.", ["upstream"], waiting)


def _plugins(hub: Hub) -> Iterator[Family]:
    entries = [entry for entry in roster(hub.plugins) if "calls" in entry]
    calls = [((one["name"], word), one["calls"][word]) for one in entries for word in _CALLS]
    yield counter("apexbridge_plugin_calls", "Calls that have ended.", ["plugin", "outcome"], calls)
    yield _of_plugins("apexbridge_plugin_calls_running", "Calls that run.", entries, "running")
    seconds = [((entry["name"],), entry["callSeconds"]) for entry in entries]
    yield counter("apexbridge_plugin_seconds", "Time in calls that have ended.", ["plugin"], seconds)
    restarts = [((entry["name"],), entry["restarts"]) for entry in entries]
    says = "How often what stays up was begun again."
    yield counter("apexbridge_plugin_restarts", says, ["plugin"], restarts)
    states = [((entry["name"], entry["state"]), 1) for entry in entries]
    yield gauge("apexbridge_plugin_state", "1 at its state.", ["plugin", "state"], states)


def _of_plugins(name: str, says: str, entries: Iterable[dict[str, Any]], word: str) -> Family:
    return gauge(name, says, ["plugin"], [((entry["name"],), entry["calls"][word]) for entry in entries])


def _nodes(hub: Hub) -> Iterator[Family]:
    nodes = sorted(hub.nodes.registry, key=lambda node: node.id)
    named, rest = nodes[:MOST_NODES], nodes[MOST_NODES:]
    yield gauge("apexbridge_nodes", "Nodes by status.", ["status"], _labelled(_by_status(nodes)))
    up = [((node.id,), node.is_up) for node in named]
    yield gauge("apexbridge_node_up", "Whether it is connected.", ["node"], up)
    running = [((node.id,), len(node.tasks)) for node in named]
    yield gauge("apexbridge_node_tasks_running", "What it runs.", ["node"], running)
    latency = [((node.id,), node.latency_ms / 1000) for node in named if node.latency_ms is not None]
    says = "How long it took to answer the last ping."
    yield gauge("apexbridge_node_latency_seconds", says, ["node"], latency)
    ended = [(labels, number) for node in named for labels, number in _ended(node.id, [node])]
    others = _ended("other", rest) if rest else ()
    yield counter("apexbridge_node_tasks", "Tasks that ended.", ["node", "outcome"], [*ended, *others])
    states = Counter(task.record.state for task in hub.nodes.tasks)
    yield gauge("apexbridge_node_task_states", "Tasks not ended, by state.", ["state"], _labelled(states))


def _by_status(nodes: Iterable[Node]) -> dict[str, int]:
    return dict.fromkeys(_STATUSES, 0) | Counter(node.status for node in nodes)


def _ended(name: str, nodes: Iterable[Node]) -> list[tuple[tuple[str, str], float]]:
    done = list(nodes)
    completed, failed = sum(node.completed for node in done), sum(node.failed for node in done)
    return [((name, "succeeded"), completed), ((name, "failed"), failed)]


def _told(hub: Hub) -> Iterator[Family]:
    events, journal = hub.events, hub.journal
    yield one("apexbridge_events_published", "Events told.", events.published, "counter")
    yield one("apexbridge_event_subscribers", "Who is told.", len(events))
    says = "Who was cut for not keeping up."
    yield one("apexbridge_event_subscribers_cut", says, events.cut, "counter")
    says = "How long a transaction took to be on disk."
    yield histogram("apexbridge_journal_write_seconds", says, journal.writes)
    says = "Transactions that could not be written."
    yield one("apexbridge_journal_failures", says, journal.failures, "counter")
    yield one("apexbridge_journal_bytes", "Bytes that wait to be written.", journal.size)
    if journal.last_write is not None:
        age = time.monotonic() - journal.last_write
        yield one("apexbridge_journal_last_write_age_seconds", "Since the last write.", age)


def _labelled(counts: Mapping[Any, int]) -> list[tuple[tuple[str], float]]:
    return [((name,), number) for name, number in counts.items()]
