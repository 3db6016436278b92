"""Chats as many clients ask for them: JSON, streams as fast as they come, streams that take their time."""

import time
from itertools import pairwise
from typing import Final

import trio

from benchmarks.answers import EVERY_NS
from benchmarks.load import Connection
from benchmarks.slices import Figures, Slice, percentile, spread, turns

FAST_STREAMS: Final = 16


async def json_chats(part: Slice, *, clients: int) -> Figures:
    """Each client asks, waits for the answer, and asks again; the last ones asked in time are waited for."""
    request = part.target.request("chat")
    connections = [Connection(part.target.port) for _ in range(clients)]
    async with trio.open_nursery() as nursery:
        for connection in connections:  # opens them, and what is behind them
            nursery.start_soon(connection.ask, request)
    took: list[float] = []
    began = time.perf_counter()

    async def client(connection: Connection) -> None:
        with connection:
            now = time.perf_counter()
            while now < began + part.seconds:
                await connection.ask(request)
                asked, now = now, time.perf_counter()
                took.append(now - asked)

    async with trio.open_nursery() as nursery:
        for connection in connections:
            nursery.start_soon(client, connection)
    return {"per s": len(took) / (time.perf_counter() - began), **spread(took)}


async def first_chunk(part: Slice) -> Figures:
    """One client, one short stream after the other."""
    request = part.target.request("short")
    took: list[float] = []
    came = 0.0

    def on_chunks(_count: int) -> None:
        nonlocal came
        came = came or time.perf_counter()

    with Connection(part.target.port) as connection:
        for _ in turns(part.seconds):
            came, asked = 0.0, time.perf_counter()
            await connection.stream(request, on_chunks)
            took.append(came - asked)
    return spread(took)


async def fast_streams(part: Slice) -> Figures:
    """Long streams as fast as they are relayed; the clock starts with the first chunk of all."""
    request = part.target.request("burst")
    came = 0
    is_coming = trio.Event()

    def on_chunks(count: int) -> None:
        nonlocal came
        came += count
        is_coming.set()

    async def client() -> None:
        with Connection(part.target.port) as connection:
            while True:
                await connection.stream(request, on_chunks)

    async with trio.open_nursery() as nursery:
        for _ in range(FAST_STREAMS):
            nursery.start_soon(client)
        await is_coming.wait()
        before, began = came, time.perf_counter()
        await trio.sleep(part.seconds)
        figures = {"chunks per s": (came - before) / (time.perf_counter() - began)}
        nursery.cancel_scope.cancel(reason="the slice is over")
    return figures


async def slow_streams(part: Slice) -> Figures:
    """Streams with two chunks a second each; measured when all of them flow."""
    request = part.target.request("slow")
    times: list[list[float]] = [[] for _ in range(part.slow_streams)]
    flowing = 0
    all_flow = trio.Event()

    async def client(came: list[float]) -> None:
        def on_chunks(_count: int) -> None:
            nonlocal flowing
            came.append(time.perf_counter())
            flowing += len(came) == 2
            if flowing == len(times):
                all_flow.set()

        with Connection(part.target.port) as connection:
            await connection.stream(request, on_chunks)

    async with trio.open_nursery() as nursery:
        for came in times:
            nursery.start_soon(client, came)
        await all_flow.wait()
        began, cpu_s = time.perf_counter(), part.target.process.cpu_s()
        await trio.sleep(2 * part.seconds)
        elapsed, cpu_s = time.perf_counter() - began, part.target.process.cpu_s() - cpu_s
        nursery.cancel_scope.cancel(reason="the slice is over")
    pace = EVERY_NS["slow"] / 1e9
    late = [now - last - pace for came in times for last, now in pairwise(came) if now >= began]
    return {"CPU %": 100 * cpu_s / elapsed, **({"p99 late ms": percentile(late, 99) * 1e3} if late else {})}
