"""Every route but the chat, in Quart: models, interrupt, the live tree, health."""

from typing import Any, cast

import msgspec
import trio
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from apexbridge_trio import __version__
from apexbridge_trio.background import described
from apexbridge_trio.errors import ApexError, BadRequest, MethodNotAllowed, NotFound, TaskSettled
from apexbridge_trio.flights import tree_entry
from apexbridge_trio.health import Health
from apexbridge_trio.hub import Hub
from apexbridge_trio.metrics import CONTENT_TYPE, metrics_text
from apexbridge_trio.models import Model
from apexbridge_trio.protocol.client import InterruptRequest, nothing_to_stop
from apexbridge_trio.protocol.openai import encode_error, read_json
from apexbridge_trio.web.arrival import error_headers
from apexbridge_trio.web.audit import add_audit
from apexbridge_trio.web.config import add_config
from apexbridge_trio.web.control import add_plugins
from apexbridge_trio.web.guards import METRICS, foreign, nothing_at, require_watcher
from apexbridge_trio.web.keys import add_keys
from apexbridge_trio.web.nodes import add_nodes
from apexbridge_trio.web.notices import add_notices
from apexbridge_trio.web.openapi import add_openapi
from apexbridge_trio.web.reading import require_json
from apexbridge_trio.web.reminders import add_reminders
from apexbridge_trio.web.replies import current_arrival, current_principal, reply, reply_bytes
from apexbridge_trio.web.tasks import add_tasks
from apexbridge_trio.web.triggers import add_triggers

_decode_interrupt = msgspec.json.Decoder(InterruptRequest).decode


def build_api(hub: Hub) -> QuartTrio:
    """Return the Quart application with all its routes."""
    app = QuartTrio(__name__, static_folder=None)
    app.config["RESPONSE_TIMEOUT"] = None  # our own deadlines rule
    app.config["PROPAGATE_EXCEPTIONS"] = True  # a defect goes to the request's one boundary
    app.url_map.merge_slashes = False  # a path is what was sent: no redirect to another one
    app.config["MAX_CONTENT_LENGTH"] = None  # the server counts, by the limit of now
    _add_errors(app)
    _add_health(app, hub)
    _add_models(app, hub)
    _add_requests(app, hub)
    add_plugins(app, hub)
    add_nodes(app, hub)
    add_tasks(app, hub)
    add_notices(app, hub)
    add_reminders(app, hub)
    add_openapi(app)
    add_audit(app, hub)
    _add_metrics(app, hub)
    add_triggers(app, hub)
    add_keys(app, hub)
    add_config(app, hub)
    return app


def _add_errors(app: QuartTrio) -> None:
    @app.errorhandler(ApexError)
    async def apex_error(error: ApexError) -> Response:
        current_arrival().notes["error"] = error.code
        told = reply_bytes(encode_error(error, current_arrival().request_id), error.status)
        for name, value in error_headers(error):
            told.headers[name.decode()] = value.decode()
        return told

    @app.errorhandler(HTTPException)
    async def http_error(error: HTTPException) -> Response:
        if error.code == 405:
            allowed = getattr(error, "valid_methods", None) or ()
            return await apex_error(MethodNotAllowed("This path has other methods.", allowed=sorted(allowed)))
        if error.code == 404:
            return await apex_error(NotFound(nothing_at(request.path)))
        return await apex_error(BadRequest(error.description or "The request can not be read."))


def _add_health(app: QuartTrio, hub: Hub) -> None:
    found = Health(hub)

    @app.get("/health")
    async def health() -> Response:
        return _health(hub, found, is_well=not found.store_fault)

    @app.get("/health/live")
    async def live() -> Response:
        return _health(hub, found, is_well=True)

    @app.get("/health/ready")
    async def ready() -> Response:
        return _health(hub, found, is_well=not (found.store_fault or hub.flights.is_draining))


def _health(hub: Hub, found: Health, *, is_well: bool) -> Response:
    """Say how the hub is; `is_well`: whether it can do what this path asks about."""
    arrival = current_arrival()
    draining = hub.flights.is_draining
    said: dict[str, Any] = {
        "status": "draining" if draining else "failing" if found.store_fault else "ok",
        "version": __version__,
        "uptimeS": round(trio.current_time() - hub.started, 1),
        "draining": draining,
    }
    auth = hub.config.auth
    at_home = arrival.is_local and auth.loopback != "none" and foreign(auth, arrival) is None
    if at_home or (arrival.principal and "admin" in arrival.principal.scopes):
        said["dependencies"] = found.dependencies()
    return reply(said, 200 if is_well else 503)


def _add_metrics(app: QuartTrio, hub: Hub) -> None:
    @app.get(METRICS)
    async def metrics() -> Response:
        require_watcher(hub, current_arrival())
        return Response(await metrics_text(hub), content_type=CONTENT_TYPE)


def _add_models(app: QuartTrio, hub: Hub) -> None:
    @app.get("/v1/models")
    async def models() -> Response:
        listed = [_model_entry(model) for model in await hub.models.all()]
        return reply({"object": "list", "data": listed})

    @app.get("/v1/models/<path:model_id>")
    async def model(model_id: str) -> Response:
        return reply(_model_entry(await hub.models.find(model_id)))


def _model_entry(model: Model) -> dict[str, Any]:
    # The hub does not know when a model was made, and the field must be a number.
    return {"id": model.id, "object": "model", "created": 0, "owned_by": model.owner}


def _add_requests(app: QuartTrio, hub: Hub) -> None:
    @app.get("/v1/requests")
    async def requests() -> Response:
        return reply([tree_entry(flight) for flight in hub.flights.roots(current_principal())])

    @app.get("/v1/requests/<request_id>")
    async def one(request_id: str) -> Response:
        return reply(_request_entry(hub, request_id))

    @app.post("/v1/interrupt")
    async def interrupt() -> Response:
        require_json(current_arrival())
        asked = read_json(cast("bytes", await request.get_data()), _decode_interrupt)
        try:
            receipt = await hub.interrupt(asked, current_principal())
        except (NotFound, TaskSettled) as fault:
            told = nothing_to_stop(asked, fault) | {"request_id": current_arrival().request_id}
            return reply(told, 404)
        return reply(receipt)


def _request_entry(hub: Hub, request_id: str) -> dict[str, Any]:
    try:
        entry = {"status": "running", **tree_entry(hub.flights.find(request_id, current_principal()))}
    except NotFound:
        entry = described(hub.backgrounds.find(request_id, current_principal()))
    return {"requestId": request_id, **entry}
