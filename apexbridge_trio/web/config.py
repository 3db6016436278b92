"""``/v1/config``: what is in force, what was, and how it changes; for administrators."""

import re
from typing import Any, Final, cast

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from quart import Response, request
from quart_trio import QuartTrio

from apexbridge_trio.config import editable
from apexbridge_trio.errors import (
    BadRequest,
    BodyTooLarge,
    ConfigRefused,
    ConfigUnconditional,
)
from apexbridge_trio.hub import Hub
from apexbridge_trio.protocol.openai import read_json
from apexbridge_trio.settings import Change, Origin
from apexbridge_trio.settings.change import Kind
from apexbridge_trio.store import RevisionRecord
from apexbridge_trio.web.arrival import Arrival, header
from apexbridge_trio.web.reading import require_json
from apexbridge_trio.web.replies import current_arrival, current_principal, reply

# As large as the file may be, written as JSON.
MAX_PATCH_BYTES: Final = 524_288
MOST_LISTED: Final = 200
_ETAG: Final = re.compile(r'"([\x21\x23-\x7e]*)"')


class Candidate(Struct):
    """What is to be checked: a whole file, or a patch."""

    toml: str | None = None
    patch: Any | UnsetType = UNSET


class Target(Struct):
    """Where to go back to."""

    revision: str


_decode_patch: Final = msgspec.json.Decoder().decode
_decode_candidate: Final = msgspec.json.Decoder(Candidate).decode
_decode_target: Final = msgspec.json.Decoder(Target).decode


def add_config(app: QuartTrio, hub: Hub) -> None:
    """Add the routes below ``/v1/config``."""
    settings = hub.settings

    @app.get("/v1/config")
    async def config() -> Response:
        current = settings.current
        return _tagged(reply(editable(current.config)), current.revision)

    @app.patch("/v1/config")
    async def patch() -> Response:
        arrival = current_arrival()
        expected = _expected(arrival)
        if expected is None:
            raise ConfigUnconditional(
                "Say for which revision this is: If-Match with the ETag of GET /v1/config."
            )
        asked = read_json(await _body(arrival), _decode_patch)
        return _changed(hub, await settings.patch(asked, expected, _origin("api", arrival)))

    @app.post("/v1/config/validate")
    async def validate() -> Response:
        asked = read_json(await _body(current_arrival()), _decode_candidate)
        if (asked.toml is None) is (asked.patch is UNSET):
            raise BadRequest("Bring a file as toml, or a patch, one of the two.", param="toml")
        try:
            applied = await settings.check(text=asked.toml, patch=asked.patch)
        except ConfigRefused as fault:
            return reply({"valid": False, "message": fault.message, "faults": _faults(fault)})
        return reply({"valid": True, "changed": _listed(applied)})

    @app.get("/v1/config/history")
    async def history() -> Response:
        current = settings.current.revision
        return reply([_entry(record, current) for record in settings.history.rows.listed(MOST_LISTED)])

    @app.get("/v1/config/history/<revision>")
    async def revision(revision: str) -> Response:
        record = settings.history.find(revision)
        return reply({**_entry(record, settings.current.revision), "toml": record.text})

    @app.post("/v1/config/rollback")
    async def rollback() -> Response:
        arrival = current_arrival()
        asked = read_json(await _body(arrival), _decode_target)
        origin = _origin("rollback", arrival)
        return _changed(hub, await settings.roll_back(asked.revision, _expected(arrival) or "*", origin))


async def _body(arrival: Arrival) -> bytes:
    require_json(arrival)
    body = cast("bytes", await request.get_data())
    if len(body) > MAX_PATCH_BYTES:
        raise BodyTooLarge(f"The body is larger than {MAX_PATCH_BYTES} bytes.")
    return body


def _expected(arrival: Arrival) -> str | None:
    """Return the revision of ``If-Match``: one, or any (``*``); None: there is no such header.

    Raises:
        BadRequest: It is neither.
    """
    value = header(arrival.scope, b"if-match")
    if value is None or value.strip() == "*":
        return value and "*"
    tag = _ETAG.fullmatch(value.strip())
    if tag is None:
        raise BadRequest(
            'If-Match is one revision in quotes, as ETag has it: "7-0123456789ab".', param="if-match"
        )
    return tag[1]


def _origin(kind: Kind, arrival: Arrival) -> Origin:
    who = current_principal()
    return Origin(kind, who.id, arrival.address, who.tenant_id, who.family_id, arrival.request_id)


def _tagged(response: Response, revision: str) -> Response:
    response.headers["ETag"] = f'"{revision}"'
    response.headers["Cache-Control"] = "no-store"
    return response


def _changed(hub: Hub, change: Change) -> Response:
    said = {
        "revision": change.revision,
        "changed": _listed(change.applied),
        "recorded": change.recorded,
        "needsRestart": hub.settings.needs_restart,
    }
    if change.made_file:
        said["created"] = "config.toml in the state directory"
    return _tagged(reply(said), change.revision)


def _listed(applied: Any) -> list[dict[str, Any]]:
    return [{"key": key, "applied": when} for key, when in applied.items()]


def _faults(fault: ConfigRefused) -> list[dict[str, Any]]:
    return [{"path": path, "line": line or None, "message": said} for path, line, said in fault.faults]


def _entry(record: RevisionRecord, current: str) -> dict[str, Any]:
    return {
        "revision": record.revision,
        "current": record.revision == current,
        "at": record.at_ms,
        "origin": record.origin,
        "by": record.principal_id or None,
        "from": record.address or None,
        "changed": _listed(msgspec.json.decode(record.changed)),
        "diff": Raw(record.diff.encode()),
    }
