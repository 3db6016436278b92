"""Meters are no more than so many, and what one costs is known."""

import tracemalloc

from apexbridge_trio.limits import MOST_METERS, Meters, Rate, Strikes


def test_the_one_not_asked_for_the_longest_is_forgotten() -> None:
    meters = Meters(lambda: Rate(1), most=2)
    first, second = meters.of("a"), meters.of("b")
    assert meters.of("a") is first
    assert meters.of("c") is not None
    assert (meters.get("a"), meters.get("b"), len(meters)) == (first, None, 2)
    assert meters.of("b") is not second


def test_a_botnet_costs_a_few_megabytes() -> None:
    strikes = Strikes(20)
    tracemalloc.start()
    try:
        for number in range(3 * MOST_METERS):
            strikes.wrong(f"2001:db8:{number:x}::", 1.0, f"apx_{number}")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(strikes) == MOST_METERS
    print(f"{held / MOST_METERS:.0f} bytes an address")
    assert held < 6_000_000
