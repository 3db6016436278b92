"""``/v1/notifications``: tell somebody something, see what they have not seen yet, and say that they have."""

from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta, Struct
from quart import Response, request
from quart_trio import QuartTrio

from apexbridge_trio.hub import Hub
from apexbridge_trio.notices import Level, NoticeKind, told
from apexbridge_trio.protocol.openai import Id, read_json
from apexbridge_trio.web.asking import device_name
from apexbridge_trio.web.reading import narrowed, require_json
from apexbridge_trio.web.replies import current_arrival, current_principal, reply

# A year: what nobody has seen by then is no news.
MAX_EXPIRES_S = 366 * 86_400.0


class NotificationRequest(Struct, rename="camel"):
    """What is to be told."""

    message: Annotated[str, Meta(min_length=1, max_length=10_000)]
    title: Annotated[str, Meta(max_length=500)] = ""
    level: Level = "info"
    kind: NoticeKind = "notification"
    tenant_id: Id | None = None
    family_id: Id | None = None
    expires_s: Annotated[float, Meta(gt=0, le=MAX_EXPIRES_S)] | None = None


_decode = msgspec.json.Decoder(NotificationRequest).decode


def add_notices(app: QuartTrio, hub: Hub) -> None:
    """Add the routes below ``/v1/notifications``."""

    @app.post("/v1/notifications")
    async def tell() -> Response:
        require_json(current_arrival())
        asked = read_json(cast("bytes", await request.get_data()), _decode)
        owner = narrowed(current_principal(), current_arrival(), asked.tenant_id, asked.family_id)
        notice_id, written = hub.notices.owe(
            asked.kind,
            owner,
            asked.message,
            level=asked.level,
            title=asked.title,
            expires_s=asked.expires_s,
        )
        await written.wait()
        return reply({"status": "success", "id": notice_id}, 201)

    @app.get("/v1/notifications")
    async def pending() -> Response:
        said: list[dict[str, Any]] = [
            {"type": notice.kind, **told(notice), "createdAt": notice.created_ms}
            for notice in hub.notices.pending(
                current_principal(), device_name(request.args.get("device", ""))
            )
        ]
        return reply(said)

    @app.get("/v1/notifications/<notice_id>")
    async def notice(notice_id: str) -> Response:
        found = hub.notices.find(notice_id, current_principal())
        said = {"type": found.kind, **told(found), "createdAt": found.created_ms, "ackedAt": found.acked_ms}
        return reply({**said, "seenOn": hub.notices.seen_on(found)})

    @app.post("/v1/notifications/<notice_id>/ack")
    async def ack(notice_id: str) -> Response:
        device = device_name(request.args.get("device", ""))
        await hub.notices.settle(notice_id, current_principal(), device)
        return reply({"status": "success", "id": notice_id})
