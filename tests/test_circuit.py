from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from apexbridge_trio.circuit import MAX_BLOCK_S, Circuit, Rests


def eighths(low: float, high: float) -> st.SearchStrategy[float]:
    """Times that add and subtract without rounding."""
    return st.integers(int(low * 8), int(high * 8)).map(lambda count: count / 8)


WAITS = eighths(0, 10_000)


def opened(now: float = 0.0) -> Circuit:
    circuit = Circuit(failures=3, pause_s=1.0, max_pause_s=5.0)
    for _ in range(3):
        assert circuit.admit(now)
        circuit.failed(now)
    return circuit


def test_each_model_rests_for_itself() -> None:
    rests = Rests()
    rests.begin("a", 0.0, 40.0)
    rests.begin("a", 1.0, 2.0)
    rests.begin("b", 1.0, 1e9)
    assert (rests.wait_s("a", 10.0), rests.wait_s("c", 10.0)) == (30.0, 0.0)
    assert rests.wait_s("b", 1.0) == MAX_BLOCK_S
    rests.begin("c", 500.0, 1.0)
    assert list(rests._until) == ["c"]  # what is over is forgotten


def test_it_opens_after_failures_in_a_row() -> None:
    circuit = Circuit(failures=3)
    for fault in (True, True, False, True, True):
        assert circuit.admit(0.0)
        circuit.failed(0.0) if fault else circuit.succeeded()
    assert circuit.state(0.0) == "closed"
    circuit.failed(0.0)
    assert circuit.state(0.0) == "open"
    assert not circuit.admit(0.0)
    assert circuit.wait_s(0.25) == 0.75


def test_one_probe_after_a_pause_that_grows_to_its_bound() -> None:
    circuit, now, pauses = opened(), 0.0, []
    for _ in range(5):
        pause = circuit.wait_s(now)
        now += pause
        pauses.append(pause)
        assert circuit.state(now) == "half-open"
        assert circuit.admit(now)
        assert not circuit.admit(now)
        circuit.failed(now)
    assert pauses == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_a_probe_that_is_never_reported_costs_one_pause() -> None:
    circuit = opened()
    assert circuit.admit(1.0)
    assert circuit.wait_s(1.0) == 2.0
    assert circuit.admit(3.0)


def test_the_probe_that_succeeds_closes_it_and_forgets_the_pauses() -> None:
    circuit = opened()
    assert circuit.admit(1.0)
    circuit.succeeded()
    assert all(circuit.admit(1.0) for _ in range(9))
    for _ in range(3):
        circuit.failed(1.0)
    assert circuit.wait_s(1.0) == 1.0


def test_many_that_fail_at_once_do_not_make_the_pause_grow() -> None:
    circuit = opened()
    for _ in range(60):
        circuit.failed(0.5)
    assert circuit.wait_s(0.5) == 0.5


@given(st.lists(WAITS, min_size=1))
def test_the_longest_wish_to_be_left_alone_counts_up_to_a_bound(wishes: list[float]) -> None:
    circuit = Circuit()
    for wish in wishes:
        circuit.blocked(100.0, wish)
    circuit.succeeded()
    assert circuit.wait_s(100.0) == min(max(wishes), MAX_BLOCK_S)
    assert circuit.state(100.0) == "closed"
    assert circuit.admit(100.0) is (circuit.wait_s(100.0) == 0)
    assert circuit.admit(100.0 + MAX_BLOCK_S)


class Life(RuleBasedStateMachine):
    """Any history: it is never lost for good, and a dead provider is asked at most once a pause."""

    @initialize(failures=st.integers(1, 5), pause=eighths(0.125, 5), bound=eighths(5, 60))
    def begin(self, failures: int, pause: float, bound: float) -> None:
        self.circuit = Circuit(failures=failures, pause_s=pause, max_pause_s=bound)
        self.failures, self.pause, self.bound = failures, pause, bound
        self.now = 0.0
        self.in_row = 0
        self.blocked_until = 0.0
        self.asked_open: list[float] = []

    @rule(seconds=eighths(0, 100))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def fails(self) -> None:
        self.circuit.failed(self.now)
        self.in_row += 1

    @rule()
    def succeeds(self) -> None:
        self.circuit.succeeded()
        self.in_row = 0
        self.asked_open.clear()

    @rule(wish=WAITS)
    def asks_to_be_left_alone(self, wish: float) -> None:
        self.circuit.blocked(self.now, wish)
        self.blocked_until = max(self.blocked_until, self.now + min(wish, MAX_BLOCK_S))

    @rule()
    def is_asked(self) -> None:
        if self.circuit.admit(self.now):
            assert self.now >= self.blocked_until
            if self.in_row >= self.failures:
                assert not self.asked_open or self.now - self.asked_open[-1] >= self.pause
                self.asked_open.append(self.now)

    @precondition(lambda self: self.in_row < self.failures)
    @invariant()
    def a_living_one_is_asked_unless_it_wished_otherwise(self) -> None:
        assert self.circuit.wait_s(self.now) == max(0.0, self.blocked_until - self.now)

    @invariant()
    def it_is_worth_asking_again_in_bounded_time(self) -> None:
        assert self.circuit.wait_s(self.now) <= max(self.bound, MAX_BLOCK_S)
        assert self.circuit.wait_s(self.now + max(self.bound, MAX_BLOCK_S) + 1) == 0


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=30)
