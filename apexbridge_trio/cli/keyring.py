"""Where the commands of keys work: at the hub, over HTTP, or in its state directory beside it.

At the hub if ``APEXBRIDGE_URL`` and ``APEXBRIDGE_KEY`` are both set and no ``--state`` is given; else in the
state directory, whether a hub runs on it or not. Either way it is written into the audit.
"""

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from apexbridge_trio.cli.exits import Exit, Failure

if TYPE_CHECKING:
    from apexbridge_trio.audit import Actor
    from apexbridge_trio.keyring import Keyring
    from apexbridge_trio.store import KeyRecord

_PAGE = 1000


def is_remote(state: Path | None) -> bool:
    """Tell whether the hub is asked."""
    return state is None and bool(os.environ.get("APEXBRIDGE_URL") and os.environ.get("APEXBRIDGE_KEY"))


def make_key(state: Path | None, expires_s: float | None, **wanted: Any) -> tuple[dict[str, Any], str]:
    """Make a key; returns its entry, with the key itself, and where it is kept.

    Args:
        state: The state directory, as the command has it.
        expires_s: For how long it is good; None: for ever.
        wanted: As `Keyring.create` has it.
    """
    if not is_remote(state):
        import time

        expires_ms = None if expires_s is None else int((time.time() + expires_s) * 1000)
        with open_keyring(state) as (keyring, directory):
            key, record, written = keyring.create(the_user(), **wanted, expires_ms=expires_ms)
            written.done()
            return {"key": key, **_entry(keyring, record)}, f"in {directory}"
    from apexbridge_trio.cli.hub import call

    names = {"tenant_id": "tenantId", "family_id": "familyId"}
    body = {names.get(name, name): value for name, value in wanted.items()} | {"expiresInS": expires_s}
    return call("POST", "/v1/keys", body), f"at {os.environ['APEXBRIDGE_URL']}"


def list_keys(state: Path | None) -> list[dict[str, Any]]:
    """Return what is known of each key, oldest first."""
    if not is_remote(state):
        with open_keyring(state) as (keyring, _):
            return [_entry(keyring, record) for record in keyring.records()]
    from apexbridge_trio.cli.hub import call

    found, after = [], ""
    while True:
        page = call("GET", f"/v1/keys?limit={_PAGE}{after}")
        found += page["keys"]
        if page["next"] is None:
            return found
        after = f"&after={quote(page['next'], safe='')}"


def revoke_key(state: Path | None, key_id: str) -> dict[str, Any]:
    """Make a key worthless; returns what the hub has ended, if it was asked.

    Raises:
        Failure: No key of that id could be used.
    """
    from apexbridge_trio.errors import NotFound

    if is_remote(state):
        from apexbridge_trio.cli.hub import call

        receipt: dict[str, Any] = call("DELETE", f"/v1/keys/{quote(key_id, safe='')}", at_most_s=5)
        return receipt
    with open_keyring(state) as (keyring, _):
        try:
            keyring.revoke(key_id, the_user()).done()
        except NotFound:
            raise Failure(f"there is no good key with the id {key_id!r}", Exit.NOT_FOUND) from None
    return {}


@contextmanager
def open_keyring(state: Path | None) -> "Iterator[tuple[Keyring, Path]]":
    """Open the keys of a state directory; the hub of it may be running.

    Raises:
        ConfigInvalid: There is no such directory, and it can not be made.
        StoreUnusable: Its database can not be opened.
    """
    from apexbridge_trio.audit import Audit
    from apexbridge_trio.config import state_directory
    from apexbridge_trio.flights import Flights
    from apexbridge_trio.identity import Keys
    from apexbridge_trio.journal import Journal
    from apexbridge_trio.keyring import Keyring
    from apexbridge_trio.openings import Openings
    from apexbridge_trio.store import Store

    directory = state_directory(state, os.environ)
    with Store(directory) as store:
        journal = Journal(store)  # which does not run, so that all is written at once
        audit = Audit(store, store, journal)
        yield (
            Keyring(Keys(store), Flights(), Openings(), audit, journal, read=store, written=store),
            directory,
        )


def the_user() -> "Actor":
    """Return who runs the command, as the audit names them."""
    from apexbridge_trio.audit import Actor

    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in a container
        name = str(os.getuid())
    return Actor(f"cli:{name}", "cli")


def _entry(keyring: "Keyring", record: "KeyRecord") -> dict[str, Any]:
    from apexbridge_trio.keyring import entry_of

    return entry_of(keyring, record)
