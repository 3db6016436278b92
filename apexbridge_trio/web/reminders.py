"""``/v1/reminders``: set, looked at and removed, by who is of the tenant and family they are for."""

from typing import cast

from quart import Response, request
from quart_trio import QuartTrio

from apexbridge_trio.hub import Hub
from apexbridge_trio.reminders import OwnReminders, read_wanted
from apexbridge_trio.web.reading import narrowed, require_json
from apexbridge_trio.web.replies import current_arrival, current_principal, reply


def add_reminders(app: QuartTrio, hub: Hub) -> None:
    """Add the routes below ``/v1/reminders``."""

    def own(tenant_id: str | None = None, family_id: str | None = None) -> OwnReminders:
        owner = narrowed(current_principal(), current_arrival(), tenant_id, family_id)
        return OwnReminders(hub.reminders, owner)

    @app.post("/v1/reminders")
    async def add_reminder() -> Response:
        require_json(current_arrival())
        wanted = read_wanted(cast("bytes", await request.get_data()))
        return reply(await own(wanted.tenant_id, wanted.family_id).add(wanted), 201)

    @app.get("/v1/reminders")
    async def reminders() -> Response:
        return reply(own().waiting())

    @app.get("/v1/reminders/<reminder_id>")
    async def reminder(reminder_id: str) -> Response:
        return reply(own().find(reminder_id))

    @app.delete("/v1/reminders/<reminder_id>")
    async def remove_reminder(reminder_id: str) -> Response:
        return reply(await own().remove(reminder_id))
