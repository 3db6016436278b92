"""``doctor``: what is wrong with this installation, and what to do; with the hub running or not."""

import os
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apexbridge_trio.cli.exits import Exit
from apexbridge_trio.cli.options import AsJson, ConfigFile, StateDirectory, print_json

if TYPE_CHECKING:
    from apexbridge_trio.cli.doctor.finding import Finding


class Lang(StrEnum):
    """Languages it speaks."""

    en = "en"
    zh = "zh"


LangOption = Annotated[Lang | None, typer.Option("--lang", help="en or zh. Default: that of LC_ALL or LANG.")]


def doctor(
    config: ConfigFile = None, state: StateDirectory = None, lang: LangOption = None, as_json: AsJson = False
) -> None:
    """Say what is wrong with the installation, and what to do. The exit code is 1 if something fails."""
    from apexbridge_trio import log
    from apexbridge_trio.cli.doctor.finding import language_of
    from apexbridge_trio.cli.words import one_line

    log.configure("error", "text")  # what it warns of is among the findings
    language = lang.value if lang else language_of()
    found: list[Finding] = []
    for finding in _findings(config, state):
        found.append(finding)
        if as_json:
            continue
        # As they are found: some wait for a network.
        print(f"{finding.level:<5} {finding.check:<12} {one_line(finding.said.in_(language))}", flush=True)
        if finding.level != "ok":
            print(f"{'':<18} → {one_line(finding.hint.in_(language))}", flush=True)
    is_well = all(finding.level != "fail" for finding in found)
    if as_json:
        print_json({"ok": is_well, "findings": [finding.entry(language) for finding in found]})
    if not is_well:
        raise typer.Exit(Exit.FAILED)


def _findings(config: Path | None, state: Path | None) -> "Iterator[Finding]":
    import trio

    from apexbridge_trio.cli.doctor import files, machine, network, plugins, store
    from apexbridge_trio.config import config_path, state_place
    from apexbridge_trio.store import holder_of

    place = state_place(state, os.environ)
    path = config_path(config, place)
    found, loaded = files.config_findings(path, os.environ)
    yield from found
    yield from files.state_findings(place)
    holder = holder_of(place)
    yield from store.store_findings(place, holder)
    yield from files.secret_findings(loaded, path.absolute().parent, os.environ)
    yield from machine.runtime_findings(loaded)
    yield from machine.clock_findings(loaded)
    yield from machine.unit_findings()
    yield from network.hub_findings(loaded, holder)
    yield from plugins.plugin_findings(loaded)
    yield from trio.run(network.upstream_findings, loaded)
