"""Counts that stay bounded, whatever comes."""

import string

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from apexbridge_trio.errors import UpstreamBroken
from apexbridge_trio.flights import Flights
from apexbridge_trio.histogram import SHORT_S, Histogram
from apexbridge_trio.identity import Principal
from apexbridge_trio.measures import Counts, Histograms, Lag, Measures, usage_facts
from apexbridge_trio.measures.count import MOST_SERIES
from apexbridge_trio.measures.lag import EVERY_S, KEPT

ME = Principal("me")


@given(st.lists(st.floats(0, 5)))
def test_each_value_is_in_one_bucket_and_all_above_it(values: list[float]) -> None:
    histogram = Histogram(SHORT_S)
    for value in values:
        histogram.add(value)
    found = dict(histogram.buckets())
    assert found["+Inf"] == len(values) == len(histogram)
    for bound in SHORT_S:
        assert found[repr(bound)] == sum(value <= bound for value in values)
    assert histogram.total == pytest.approx(sum(values))


def test_series_beyond_the_most_are_one() -> None:
    counts, histograms = Counts("model"), Histograms("model", "fault", bounds=SHORT_S)
    for number in range(MOST_SERIES + 100):
        counts.add((f"m{number}",))
        histograms.add((f"m{number}", ""), 0.1)
        counts.add(("m0",))
    assert (len(counts), len(histograms)) == (MOST_SERIES + 1, MOST_SERIES + 1)
    assert (counts.of("other"), counts.of("m0")) == (100, MOST_SERIES + 101)
    assert len(histograms.of("other", "other")) == 100


async def test_calls_of_models_are_counted_by_how_they_end(autojump_clock: object) -> None:
    flights, measures = Flights(), Measures()
    flights.watchers.append(measures)
    told_by = {"gen_ai.provider.name": "up", "gen_ai.request.model": "m"}
    with flights.open("r1", "chat", ME) as root:
        with root.child("round1/llm", "upstream") as call:
            call.facts |= told_by | usage_facts({"prompt_tokens": 3, "completion_tokens": 5})
            await trio.sleep(2)
        with pytest.raises(UpstreamBroken), root.child("round2/llm", "upstream") as call:
            call.facts |= told_by
            raise UpstreamBroken("no")
        with root.child("round3/llm", "upstream"):
            pass  # nobody was asked
    assert measures.operations.of("up", "m", "").total == 2
    assert len(measures.operations.of("up", "m", "upstream_broken")) == 1
    assert measures.tokens.of("up", "m", "input").total == 3
    assert measures.tokens.of("up", "m", "output").total == 5
    assert len(measures.operations) == 2


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        "x",
        {"prompt_tokens": "3"},
        {"prompt_tokens": -1},
        {"prompt_tokens": True},
        {"prompt_tokens": 10**30},
    ],
)
def test_what_is_no_count_of_tokens_is_none(usage: object) -> None:
    assert usage_facts(usage) == {}


async def test_a_loop_that_is_held_shows(autojump_clock: object) -> None:
    lag = Lag()
    with trio.move_on_after(10 * EVERY_S + 0.1):
        await lag.run()
    assert (len(lag.histogram), lag.worst_s) == (10, 0.0)
    lag.note(0.7)
    assert (lag.worst_s, lag.histogram.total) == (0.7, 0.7)
    for _ in range(KEPT):
        lag.note(0.0)
    assert lag.worst_s == 0.0, "a minute later it is over"


def test_label_names_are_what_prometheus_takes() -> None:
    measures = Measures()
    found: list[Counts | Histograms] = [
        measures.requests,
        measures.durations,
        measures.answers,
        measures.operations,
        measures.tokens,
    ]
    allowed = set(string.ascii_lowercase + "_")
    assert all(set(name) <= allowed for family in found for name in family.names)
