"""What can be asked of the hub over HTTP, told to programs: ``/openapi.json``."""

from quart import Response
from quart_trio import QuartTrio

from apexbridge_trio.web.openapi.document import document
from apexbridge_trio.web.openapi.operations import OPERATIONS
from apexbridge_trio.web.replies import reply_bytes

__all__ = ["OPERATIONS", "add_openapi", "document"]


def add_openapi(app: QuartTrio) -> None:
    """Add the route of the document."""

    @app.get("/openapi.json")
    async def openapi() -> Response:
        return reply_bytes(document(), 200)
