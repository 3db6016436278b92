"""Every test ends quiet: no descriptor and no child process more than before it."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.harness.quiet import Traces, settle

# Machines are shared: how long an example took says nothing about the code.
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")


@pytest.fixture(autouse=True)
def quiet(request: pytest.FixtureRequest) -> Iterator[None]:
    before = Traces.now()
    yield
    if Traces.now().left_since(before):
        left = settle().left_since(before)
        assert not left, f"{request.node.nodeid} left {left}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures that tests have recorded with ``record_property("figure", …)``."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if name == "figure":
                terminalreporter.write_line(value)
