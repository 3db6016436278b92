"""Lay the hub into a virtual environment of its own, from what `make venv` has installed already.

    .venv/bin/python packaging/lay.py LOCK WHEEL ENVIRONMENT

Nothing is downloaded: the distributions that LOCK pins were checked against its hashes when they were
installed here, and are copied file by file as their own records list them. Console scripts are left out:
their first line names this place. Bytecode is left out too; it is made anew for where the files will be.
"""

import re
import shutil
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

PINNED = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)


def main(lock: str, wheel: str, environment: str) -> None:
    """Copy what is pinned, and the hub."""
    packages = Path(environment, "lib", f"python{sysconfig.get_python_version()}", "site-packages")
    if not packages.is_dir():
        sys.exit(
            f"{environment} is not of Python {sysconfig.get_python_version()}, as .venv is: make both of one."
        )
    here = Path(sysconfig.get_path("purelib"))
    for name in PINNED.findall(Path(lock).read_text("utf-8")):
        for file in files_of(distribution(name), here):
            place = packages / file.relative_to(here)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, place)
    zipfile.ZipFile(wheel).extractall(packages)


def files_of(installed: Distribution, here: Path) -> Iterator[Path]:
    """Return the files of a distribution that are importable, or say what it is."""
    for listed in installed.files or []:
        file = Path(str(installed.locate_file(listed))).resolve()
        if file.is_relative_to(here.resolve()) and file.suffix != ".pyc":
            yield here / file.relative_to(here.resolve())


if __name__ == "__main__":
    main(*sys.argv[1:])
