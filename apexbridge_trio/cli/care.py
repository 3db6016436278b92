"""``backup`` and ``restore``: all that a hub must not lose, in one file and back, while it runs or not."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apexbridge_trio.cli.options import AsJson, ConfigFile, StateDirectory, print_json

if TYPE_CHECKING:
    from apexbridge_trio.audit import Actor
    from apexbridge_trio.backup import Backup
    from apexbridge_trio.backup.manifest import Manifest
    from apexbridge_trio.backup.restore import Plan

Target = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]
Replace = Annotated[bool, typer.Option("--force", help="Replace a file that is there.")]
Aside = Annotated[bool, typer.Option("--force", help="Move aside, and keep, what is there.")]
Look = Annotated[
    bool, typer.Option("--check", help="Read the backup, say what is in it, and change nothing.")
]


def backup(
    file: Target,
    force: Replace = False,
    config: ConfigFile = None,
    state: StateDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Write all that a hub must not lose to one file. The hub may run."""
    from apexbridge_trio.backup import write_backup
    from apexbridge_trio.config import config_path, shipped, state_directory

    directory = state_directory(state, os.environ)
    path = config_path(config, directory)
    written = write_backup(
        directory,
        file,
        config=None if path == shipped("config.toml") else path,
        env=os.environ,
        force=force,
    )
    if as_json:
        print_json({"path": str(written.path), "bytes": written.size, **_shown(written.manifest)})
        return
    print(f"{written.path}: {written.size} bytes, checked")
    _print(written.manifest)


def restore(
    file: Target,
    force: Aside = False,
    check: Look = False,
    state: StateDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Put a backup in place. With the hub running it is taken at its next start. What was there is kept."""
    from apexbridge_trio.backup import open_backup
    from apexbridge_trio.config import state_directory

    directory = state_directory(state, os.environ)
    with open_backup(file) as opened:
        if check:
            opened.verify()
            done: dict[str, Any] = {"restored": False}
        else:
            done = _restore(opened, directory, force=force)
        manifest = opened.manifest
    if as_json:
        print_json({**done, **_shown(manifest)})
        return
    print(_said(done, directory))
    _print(manifest)


def _restore(opened: "Backup", directory: Path, *, force: bool) -> dict[str, Any]:
    from apexbridge_trio.backup import stage
    from apexbridge_trio.cli.keyring import the_user
    from apexbridge_trio.store import StateHeld, hold_state

    try:
        with hold_state(directory):
            finish_and_note(directory, the_user())  # what an earlier one left half done
            stage(opened, directory, force=force, by=the_user().id)
            kept = finish_and_note(directory, the_user())
    except StateHeld as fault:
        stage(opened, directory, force=force, by=the_user().id)
        return {"restored": False, "staged": True, "process": fault.pid}
    return {"restored": True, "kept": str(kept)}


def finish_and_note(directory: Path, by: "Actor") -> Path | None:
    """Put a staged backup in place, as `finish_restore` does, and note it in the audit that came with it.

    A crash at any step loses neither: what is in place and not noted is noted by the next one.

    Args:
        directory: The state directory.
        by: Who does it, where nobody is known to have wanted it.

    Returns:
        Where what was there is kept; None: there is nothing to say.
    """
    from apexbridge_trio.backup import finish_restore, restore_noted

    if (plan := finish_restore(directory)) is None:
        return None
    _note(directory, plan, by)
    restore_noted(directory)
    return directory / plan.kept


def _note(directory: Path, plan: "Plan", by: "Actor") -> None:
    from apexbridge_trio.audit import Actor, Audit
    from apexbridge_trio.journal import Journal
    from apexbridge_trio.store import Store

    with Store(directory) as store:
        audit = Audit(store, store, Journal(store))
        if any(line.target == plan.kept for line in audit.rows.listed(limit=1, action="state.restored")):
            return  # cut short just after
        audit.note("state.restored", plan.kept, Actor(plan.by, "cli") if plan.by else by).done()


def _said(done: dict[str, Any], directory: Path) -> str:
    if done["restored"]:
        return f"restored into {directory}; what was there is kept in {done['kept']}"
    if done.get("staged"):
        return (
            f"a hub runs in {directory} (process {done['process']}): the backup is checked and ready;"
            " it is taken when that hub is started again (as a service: systemctl restart apexbridge)"
        )
    return "whole: every file is as it was written"


def _shown(manifest: "Manifest") -> dict[str, Any]:
    return {
        "program": manifest.program,
        "schema": manifest.schema,
        "createdAt": manifest.created_at,
        "files": len(manifest.files),
        "missing": manifest.missing,
        "leftOut": manifest.left_out,
        "config": manifest.config,
    }


def _print(manifest: "Manifest") -> None:
    print(f"of {manifest.created_at}, by version {manifest.program}: {len(manifest.files)} files")
    if manifest.config:
        print(f"the config is of {manifest.config}; a restore leaves it in the folder elsewhere/")
    if manifest.missing:
        print(f"{manifest.missing} results that the hub knows of had no file")
    for name in manifest.left_out:
        print(f"not in it: the secret {name}")
