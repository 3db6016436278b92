"""Every test ends quiet: no descriptor and no child process more than before it."""

from collections.abc import Iterator

import pytest

from tests.harness.quiet import Traces, settle


@pytest.fixture(autouse=True)
def quiet(request: pytest.FixtureRequest) -> Iterator[None]:
    before = Traces.now()
    yield
    if Traces.now().left_since(before):
        left = settle().left_since(before)
        assert not left, f"{request.node.nodeid} left {left}"
