"""What the hub does once it has started; its life as a service is in test_systemd.py."""

import gc
from collections.abc import Iterator

import pytest

from apexbridge_trio.daemon import _settle


class Embedded:
    """An embedded model that notes whether garbage was collected while it was made ready."""

    def __init__(self) -> None:
        self.collected: list[bool] = []

    async def warm_aside(self) -> list[str]:
        self.collected.append(gc.isenabled())
        return []


class Hub:
    def __init__(self) -> None:
        self.embedded = Embedded()


@pytest.fixture
def collector() -> Iterator[None]:
    """Off, as it is during a start; and in the end as it was."""
    gc.disable()
    yield
    gc.unfreeze()
    gc.enable()


async def test_what_the_start_made_is_never_looked_through_and_the_rest_is(collector: None) -> None:
    await _settle(hub := Hub())  # type: ignore[arg-type]
    assert hub.embedded.collected == [False]
    assert gc.isenabled()
    assert gc.get_freeze_count() > 10_000
