"""``/v1/triggers``: what the hub does by itself, and how that fares; an administrator's."""

from quart import Response
from quart_trio import QuartTrio

from apexbridge_trio.hub import Hub
from apexbridge_trio.web.replies import current_actor, reply


def add_triggers(app: QuartTrio, hub: Hub) -> None:
    """Add the routes below ``/v1/triggers``."""

    @app.get("/v1/triggers")
    async def triggers() -> Response:
        return reply(hub.triggers.listed())

    @app.post("/v1/triggers/<name>/test")
    async def test(name: str) -> Response:
        event = hub.triggers.try_out(name)
        # One that was off is on again by it: noted in the same step, and so in its transaction.
        await hub.audit.note("trigger.tested", name, current_actor()).wait()
        return reply(event, 202)
