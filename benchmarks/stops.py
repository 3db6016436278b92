"""Streams that are stopped half-way: how long the provider goes on being asked for what nobody reads."""

import json
import time
from collections.abc import Mapping
from itertools import islice
from typing import Final

import trio

from benchmarks.load import Connection
from benchmarks.sides import Target
from benchmarks.slices import Figures, Slice, percentile, spread, turns

STOPS: Final = 100  # in one slice at most: a side that stops nothing has to relay them all
CLOSE_LIMIT_S: Final = 1.0  # a close that has not come by then is counted as none
LOOK_EVERY_S: Final = 0.02  # for it


async def interrupts(part: Slice) -> Figures:
    """One stream after the other is stopped by `POST /v1/interrupt`."""
    stopped: dict[str, int] = {}
    receipts: list[float] = []
    with Connection(part.target.port) as control:
        for number in islice(turns(part.seconds), STOPS):
            name = f"stop-{number}"
            with Connection(part.target.port) as client:
                await client.start_stream(part.target.request("endless", name, requestId=name))
                stopped[name] = time.monotonic_ns()
                receipt = json.loads(
                    await control.ask(part.target.post("/v1/interrupt", {"requestId": name}))
                )
                if receipt["state"] == "stopped":
                    receipts.append((time.monotonic_ns() - stopped[name]) / 1e9)
    closes = await _closes(part.provider, stopped)
    return {**closes, **({"receipt p50 ms": percentile(receipts, 50) * 1e3} if receipts else {})}


async def disconnects(part: Slice) -> Figures:
    """One stream after the other is left by its client."""
    left: dict[str, int] = {}
    for number in islice(turns(part.seconds), STOPS):
        name = f"left-{number}"
        with Connection(part.target.port) as client:
            await client.start_stream(part.target.request("endless", name))
            left[name] = time.monotonic_ns()
    return await _closes(part.provider, left)


async def _closes(provider: Target, stopped: Mapping[str, int]) -> Figures:
    """How long after each stop the provider saw the stream closed."""
    closed: dict[str, int] = {}
    with Connection(provider.port) as control, trio.move_on_after(CLOSE_LIMIT_S):
        while not stopped.keys() <= closed.keys():
            closed = json.loads(await control.ask(b"GET /closed HTTP/1.1\r\n\r\n"))
            await trio.sleep(LOOK_EVERY_S)
    took = [(closed[name] - at) / 1e9 for name, at in stopped.items() if name in closed]
    return {**spread(took), "closed %": 100 * len(took) / len(stopped)}
