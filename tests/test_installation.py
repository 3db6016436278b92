"""What brings a missing library depends on how the program came here."""

import subprocess
from pathlib import Path

import pytest

from apexbridge_trio.installation import remedy

CLONE = Path("/home/me/apexbridge")


@pytest.mark.parametrize(
    ("prefix", "command"),
    [
        ("/usr/lib/apexbridge", "sudo apt install --reinstall ./build/apexbridge_*.deb"),
        ("/usr/local/lib/apexbridge", "sudo make install"),
        ("/opt/home/lib/apexbridge", "sudo make install PREFIX=/opt/home"),
        ("/home/me/apexbridge/.venv", "make clean venv"),
        ("/home/me/env", "pip install '.[mcp]'"),
    ],
)
def test_the_command_is_one_that_works_there(prefix: str, command: str) -> None:
    assert remedy("mcp", prefix=Path(prefix), source=CLONE) == command


def test_without_an_extra_it_is_the_whole() -> None:
    assert remedy(prefix=Path("/home/me/env"), source=CLONE) == "pip install ."


@pytest.mark.parametrize("prefix", ["/usr", "/usr/local", "/opt/home"])
def test_the_places_are_those_of_the_installer(prefix: str) -> None:
    script = '. packaging/places; echo "$lib"'
    root = Path(__file__).parents[1]
    said = subprocess.run(
        ["bash", "-c", script], cwd=root, env={"PREFIX": prefix}, capture_output=True, text=True, check=True
    )
    assert remedy(prefix=Path(said.stdout.strip()), source=CLONE).startswith("sudo ")
