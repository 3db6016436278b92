"""What tests of programs share."""

import math
from pathlib import Path

import pytest

from apexbridge_trio.plugins import conversation


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a short name: one of a socket must be."""
    return tmp_path_factory.mktemp("p")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the hub wait for the exit of a process that has answered, however long that takes here."""
    monkeypatch.setattr(conversation, "LINGER_S", math.inf)
