"""``/v1/keys``: made, looked at and revoked, by administrators; a key itself is shown once."""

import time
from typing import Annotated, Any, Final, cast

import msgspec
from msgspec import Meta, Struct
from quart import Response, request
from quart_trio import QuartTrio

from apexbridge_trio.errors import BadRequest, NotFound
from apexbridge_trio.hub import Hub
from apexbridge_trio.keyring import Ended, entry_of
from apexbridge_trio.protocol.openai import read_json
from apexbridge_trio.store import KeyRecord
from apexbridge_trio.store.keys import MOST_KEYS_LISTED
from apexbridge_trio.web.paging import whole
from apexbridge_trio.web.reading import require_json
from apexbridge_trio.web.replies import current_actor, current_arrival, reply

# As an interrupt waits for its receipt.
WAIT_S: Final = 5.0
_PAGE: Final = 100
_LONGEST_S: Final = 100 * 366 * 86_400.0


class KeyRequest(Struct, rename="camel"):
    """A key that is wanted."""

    scopes: Annotated[list[str], Meta(min_length=1, max_length=20)]
    name: str = ""
    tenant_id: str = "default"
    family_id: str | None = None
    expires_in_s: Annotated[float, Meta(gt=0, le=_LONGEST_S)] | None = None
    expires_at: int | None = None


_decode = msgspec.json.Decoder(KeyRequest).decode


def add_keys(app: QuartTrio, hub: Hub) -> None:
    """Add the routes below ``/v1/keys``."""

    @app.post("/v1/keys")
    async def add_key() -> Response:
        require_json(current_arrival())
        asked = read_json(cast("bytes", await request.get_data()), _decode)
        key, record, written = hub.keyring.create(
            current_actor(),
            scopes=asked.scopes,
            tenant_id=asked.tenant_id,
            family_id=asked.family_id,
            name=asked.name,
            expires_ms=_expiry(asked),
        )
        await written.wait()
        made = reply({"key": key, **_entry(hub, record, {})}, 201)
        made.headers["Cache-Control"] = "no-store"
        return made

    @app.get("/v1/keys")
    async def keys() -> Response:
        limit = whole("limit", least=1, most=MOST_KEYS_LISTED, absent=_PAGE)
        assert limit is not None
        after = request.args.get("after")
        if after is not None:
            _find(hub, after)
        found = hub.keyring.rows.listed(limit=limit, after=after, tenant_id=request.args.get("tenantId"))
        opened = hub.keyring.opened()
        more = found[-1].id if len(found) == limit else None
        return reply({"keys": [_entry(hub, one, opened) for one in found], "next": more})

    @app.get("/v1/keys/<key_id>")
    async def key(key_id: str) -> Response:
        return reply(_entry(hub, _find(hub, key_id), hub.keyring.opened()))

    @app.delete("/v1/keys/<key_id>")
    async def revoke_key(key_id: str) -> Response:
        # A key may revoke itself; who asked for that is told.
        written = hub.keyring.revoke(key_id, current_actor(), but=current_arrival().opening)
        ended: Ended = await written.wait()
        receipt = await ended.receipt(WAIT_S)
        return reply({"status": "success", **receipt, **_entry(hub, _find(hub, key_id), {})})


def _expiry(asked: KeyRequest) -> int | None:
    if asked.expires_in_s is None:
        return asked.expires_at
    if asked.expires_at is not None:
        raise BadRequest("Say expiresInS or expiresAt, not both.", param="expiresAt")
    return int((time.time() + asked.expires_in_s) * 1000)


def _find(hub: Hub, key_id: str) -> KeyRecord:
    record = hub.keyring.find(key_id)
    if record is None:
        raise NotFound("There is no key of that id.")
    return record


def _entry(hub: Hub, record: KeyRecord, opened: dict[str, int]) -> dict[str, Any]:
    return {**entry_of(hub.keyring, record), "open": opened.get(record.id, 0)}
