"""What tests of programs share."""

from pathlib import Path

import pytest


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a short name: one of a socket must be."""
    return tmp_path_factory.mktemp("p")
