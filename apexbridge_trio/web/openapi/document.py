"""The OpenAPI 3.1 document, made from the structs that decode requests and those that shape replies."""

from functools import cache
from typing import Any, Final

import msgspec

from apexbridge_trio import __version__
from apexbridge_trio.protocol.openai import ErrorEnvelope, encode
from apexbridge_trio.web.guards import is_keyless, scopes_of
from apexbridge_trio.web.openapi.operation import ID_SCHEMA, Operation, Query
from apexbridge_trio.web.openapi.operations import OPERATIONS

_JSON: Final = "application/json"
_REFS: Final = "#/components/schemas/{name}"
_REFUSED: Final = {
    "4XX": "Refused; the message says what to do about it.",
    "5XX": "The hub, or what it asked, could not.",
}


@cache
def document() -> bytes:
    """Return the document, as JSON."""
    schemas, components = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _written(operation, schemas)
    return encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "apexbridge", "version": __version__, "license": {"name": "Apache-2.0"}},
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _schemas() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the schema of each type that is used, by the type's name, and what these refer to."""
    used: dict[str, Any] = {str(ErrorEnvelope): ErrorEnvelope}
    for operation in OPERATIONS:
        used |= {str(shape): shape for shape in operation.shapes}
    made, components = msgspec.json.schema_components(used.values(), ref_template=_REFS)
    return dict(zip(used, made, strict=True)), components


def _written(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.about,
        "tags": [operation.path.split("/")[2 if operation.path.startswith("/v1/") else 1]],
        "security": _security(operation),
        "parameters": _parameters(operation),
        "responses": {str(status): _reply(operation, status, schemas) for status in operation.replies},
    }
    refused = {"content": {_JSON: {"schema": schemas[str(ErrorEnvelope)]}}}
    said["responses"] |= {status: {"description": about, **refused} for status, about in _REFUSED.items()}
    if operation.body is not None:
        said["requestBody"] = {"required": True, "content": {_JSON: {"schema": schemas[str(operation.body)]}}}
    return said


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    """Say which scopes open it; an empty entry beside others: no key is needed on the machine itself."""
    needed = scopes_of(operation.path)
    if not needed:
        return [{}]
    scopes = ["admin"] if operation.only_admin else sorted(needed)
    return [*({"key": [scope]} for scope in scopes), *([{}] if is_keyless(operation.path) else [])]


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": ID_SCHEMA} for name in operation.places
    ]
    in_query = [_optional(query, "query") for query in operation.query]
    return in_path + in_query + [_optional(query, "header") for query in operation.headers]


def _optional(query: Query, place: str) -> dict[str, Any]:
    return {"name": query.name, "in": place, "description": query.about, "schema": query.schema}


def _reply(operation: Operation, status: int, schemas: dict[str, Any]) -> dict[str, Any]:
    shape = operation.replies[status]
    content = {} if shape is None else {_JSON: {"schema": schemas[str(shape)]}}
    if operation.text and status == 200:
        # No schema: 3.1 has none for a stream of events, and who reads it as one of each event is not misled.
        content[operation.text] = {}
    return {"description": operation.about, "content": content}
