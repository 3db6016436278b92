"""The run: in each round every side is started afresh, and each scenario visits them in turn.

Interleaved like this, what else the machine does in a minute hurts all sides alike, and a ratio of two
figures of one round holds where the figures themselves do not.
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import trio

from benchmarks.load import Connection, Refused
from benchmarks.running import LOAD_CORES, NotReady, Running, run
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.sides import Side, direct, start
from benchmarks.slices import Figures, Slice

# A side that needs longer for one slice is left out of that table, with a note.
SLICE_LIMIT_S: Final = 45.0


@dataclass(frozen=True)
class Scale:
    """How much of everything.

    Attributes:
        seconds: Of one slice.
        slow_streams: Held open at once in their scenario.
    """

    rounds: int = 3
    seconds: float = 1.5
    slow_streams: int = 200


@dataclass
class Results:
    """What was found.

    Attributes:
        figures: By scenario, side and column: the figure of each round that has one.
        notes: What was left out, and why.
    """

    figures: dict[tuple[str, str, str], dict[int, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, scenario: Scenario, side: str, round_number: int, found: Figures) -> None:
        """Keep those that the scenario shows."""
        for column in scenario.columns.keys() & found.keys():
            self.figures.setdefault((scenario.title, side, column), {})[round_number] = found[column]


@dataclass
class Bench:
    """One run of the benchmarks.

    Attributes:
        tell: Gets a line of progress now and then.
        results: Grows while it runs.
    """

    sides: Sequence[Side]
    scale: Scale
    tell: Callable[[str], None]
    results: Results = field(default_factory=Results)

    async def run(self) -> None:
        """Measure the sides, and the provider alone; a side that fails is noted and left out there.

        Cancellation: every process that was started is gone.
        """
        for number in range(self.scale.rounds):
            with tempfile.TemporaryDirectory(prefix="apexbridge-bench-") as directory:
                async with trio.open_nursery() as processes:
                    await self._round(number, Path(directory), processes)
                    processes.cancel_scope.cancel(reason="the round is over")

    async def _round(self, number: int, directory: Path, processes: trio.Nursery) -> None:
        command = [sys.executable, "-m", "benchmarks.provider"]
        provider: Running = await processes.start(
            partial(run, command, "listening on", cores=LOAD_CORES, env={}), name="provider"
        )
        alone = direct(provider)
        targets = [alone]
        for side in self.sides:
            self._tell(number, f"start {side.name}")
            try:
                targets.append(await start(side, directory / side.name, provider, processes))
            except (NotReady, OSError) as fault:
                self._note(side.name, "is left out", fault)
        for scenario in SCENARIOS:
            self._tell(number, scenario.title)
            # Back and forth, so that nobody always comes after the same neighbour.
            for target in targets[:: -1 if number % 2 else 1]:
                if scenario.needs in target.side.can:
                    await self._visit(
                        number, scenario, Slice(target, alone, self.scale.seconds, self.scale.slow_streams)
                    )

    async def _visit(self, number: int, scenario: Scenario, part: Slice) -> None:
        """Measure one slice; then nothing of it may go on into the next."""
        side = part.target.side.name
        try:
            with trio.fail_after(SLICE_LIMIT_S):
                self.results.add(scenario, side, number, await scenario.measure(part))
        except* (Refused, OSError, trio.TooSlowError) as faults:
            self._note(f"{side}, {scenario.title}", "not measured", faults)
        with Connection(part.provider.port) as control:
            await control.ask(b"GET /reset HTTP/1.1\r\n\r\n")

    def _tell(self, number: int, what: str) -> None:
        self.tell(f"round {number + 1} of {self.scale.rounds}: {what}")

    def _note(self, what: str, fate: str, fault: BaseException) -> None:
        while isinstance(fault, BaseExceptionGroup):
            fault = fault.exceptions[0]
        note = f"{what}: {fate}, {type(fault).__name__} {' '.join(str(fault).split())[:200]}".strip()
        self.tell(note)
        if note not in self.results.notes:
            self.results.notes.append(note)
