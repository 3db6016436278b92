"""What only an administrator sees and does: the plugins, for now."""

from quart import Response
from quart_trio import QuartTrio

from apexbridge_trio.hub import Hub
from apexbridge_trio.plugins import roster
from apexbridge_trio.protocol.openai import encode


def add_plugins(app: QuartTrio, hub: Hub) -> None:
    """Add the routes below ``/v1/plugins``."""

    @app.get("/v1/plugins")
    async def plugins() -> Response:
        return Response(encode(roster(hub.plugins)), content_type="application/json")
