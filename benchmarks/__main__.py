"""`python -m benchmarks`: measure, print the report, and keep it in benchmarks/RESULTS.md."""

import argparse
import os
import sys
from datetime import datetime
from pathlib import Path

import trio

from benchmarks.peers import peers
from benchmarks.report import written
from benchmarks.rounds import Bench, Scale
from benchmarks.running import LOAD_CORES, ROOT
from benchmarks.sides import own_sides

FULL = Scale(rounds=3, seconds=1.5, slow_streams=200)
QUICK = Scale(rounds=1, seconds=0.3, slow_streams=200)


def main() -> None:
    """Measure what is there."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, printed and not kept")
    parser.add_argument("--out", type=Path, help="where to keep the report")
    options = parser.parse_args()
    scale = QUICK if options.quick else FULL
    out = options.out or (None if options.quick else ROOT / "benchmarks" / "RESULTS.md")

    os.sched_setaffinity(0, LOAD_CORES)
    installed, missing = peers()
    sides = [*own_sides(), *installed]
    bench = Bench(sides, scale, lambda line: print(line, file=sys.stderr, flush=True))
    bench.results.notes += [f"{name}: not installed (`make bench-peers`)" for name in missing]
    trio.run(bench.run)

    report = written(bench.results, sides, scale, datetime.now().astimezone().date())
    print(report)
    if out:
        out.write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
