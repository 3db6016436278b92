"""``GET /v1/audit``: who changed what, when, from where; newest first, in pages."""

from typing import Final

from quart import Response, request
from quart_trio import QuartTrio

from apexbridge_trio.audit import entry_of
from apexbridge_trio.hub import Hub
from apexbridge_trio.store.audit import MOST_LISTED
from apexbridge_trio.web.paging import whole
from apexbridge_trio.web.replies import reply

_PAGE: Final = 100
_MOST_SEQ: Final = 2**53


def add_audit(app: QuartTrio, hub: Hub) -> None:
    """Add the route."""

    @app.get("/v1/audit")
    async def audit() -> Response:
        limit = whole("limit", least=1, most=MOST_LISTED, absent=_PAGE)
        before = whole("before", least=1, most=_MOST_SEQ)
        assert limit is not None
        lines = hub.audit.rows.listed(limit=limit, before=before, action=request.args.get("action"))
        # A full page may be the last one; then the next is empty.
        more = lines[-1].seq if len(lines) == limit else None
        return reply({"entries": [entry_of(line) for line in lines], "next": more})
