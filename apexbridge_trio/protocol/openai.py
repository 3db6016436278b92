"""OpenAI's chat objects: what the hub reads of a request, and what it writes itself.

A request is read twice, and cheaply: once as `ChatRequest`, the fields the hub acts on, and once as
raw values by name, which go to the provider byte for byte. Wire names are OpenAI's snake_case; the
hub's own fields are camelCase.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from apexbridge_trio.errors import ApexError, BadRequest, ConfigRefused

T = TypeVar("T")

# The hub's own fields; they never go upstream.
OWN_FIELDS: Final = frozenset({"requestId", "messageId", "tenantId", "familyId", "apex"})

# A day: longer than any answer, short enough that a slip in the unit is noticed.
MAX_TIMEOUT_S: Final = 86_400.0

# OpenAI's own bound of `n`.
MAX_CHOICES: Final = 128

# Longer than any provider's own, cloud resource names included; an error quotes it.
MAX_MODEL_CHARS: Final = 300

# What is said of a wrong value may quote it, and a value can be as large as a body.
MAX_FAULT_CHARS: Final = 300

# `$` alone lets a line end pass.
Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{1,200}$(?!\n)")]
Timeout = Annotated[float, Meta(gt=0, le=MAX_TIMEOUT_S)]


class Message(Struct):
    """The one part of a message the hub insists on; the rest is relayed as it is."""

    role: str


class StreamOptions(Struct):
    """What else a stream shall say."""

    include_usage: bool | None = None


class FunctionName(Struct):
    """A function, by its name."""

    name: str


class OfferedTool(Struct):
    """A tool the client offers; kinds without a function are relayed unread."""

    function: FunctionName | None = None


class ApexOptions(Struct, rename="camel"):
    """The ``apex`` object of a chat request; null is as good as absent, as OpenAI has it for its own."""

    timeout_s: Annotated[Timeout | None, Meta(description="Deadline of the whole answer, seconds.")] = None
    background: bool | None = None
    push: bool | None = None
    tools: Literal["auto", "none"] | list[str] | None = None
    node: Id | None = None
    conversation_id: Id | None = None


_NO_OPTIONS: Final = ApexOptions()


class ChatRequest(Struct):
    """The fields of a chat request that the hub acts on."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    model: Annotated[str, Meta(max_length=MAX_MODEL_CHARS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[OfferedTool] | None = None
    tool_choice: Any = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    request_id: Id | None = msgspec.field(default=None, name="requestId")
    message_id: Id | None = msgspec.field(default=None, name="messageId")
    tenant_id: Id | None = msgspec.field(default=None, name="tenantId")
    family_id: Id | None = msgspec.field(default=None, name="familyId")
    options: ApexOptions | None = msgspec.field(default=None, name="apex")

    @property
    def apex(self) -> ApexOptions:
        """The hub's own options."""
        return self.options or _NO_OPTIONS

    @property
    def chosen_id(self) -> str | None:
        """The id the client chose for this request."""
        return self.request_id or self.message_id

    @property
    def wants_usage(self) -> bool:
        """Whether the stream ends with a usage chunk."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def client_tools(self) -> frozenset[str]:
        """Names of the functions the client runs itself."""
        return frozenset(tool.function.name for tool in self.tools or () if tool.function)


class CalledFunction(Struct):
    """What a call asks for; `arguments` is JSON text, as the model wrote it."""

    name: str
    arguments: str


class Call(Struct):
    """One tool call of a model."""

    id: str
    function: CalledFunction
    type: str = "function"


class Delta(Struct, omit_defaults=True):
    """What a chunk adds to the message."""

    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChunkChoice(Struct):
    """One choice of a chunk."""

    delta: Delta
    finish_reason: str | None = None
    index: int = 0


class Chunk(Struct, omit_defaults=True, tag_field="object", tag="chat.completion.chunk"):
    """One event of a streamed answer that the hub writes itself."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: dict[str, Any] | UnsetType = UNSET
    apex: dict[str, Any] | UnsetType = UNSET


class ErrorBody(Struct):
    """What went wrong; `type` is one of OpenAI's words, `param` the field at fault."""

    message: str
    type: str
    code: str
    param: str | None
    faults: list[dict[str, Any]] | UnsetType = UNSET


class ErrorEnvelope(Struct):
    """The one shape of every error reply."""

    error: ErrorBody
    request_id: str


# Kinds of content parts; each has its content under its own name.
PARTS: Final = ("text", "image_url", "input_audio", "file")

_PLACE: Final = re.compile(r"^(?P<what>.*?) - at `\$\.?(?P<where>.*)`$", re.DOTALL)
_MISSING: Final = re.compile(r"missing required field `(?P<name>[^`]*)`")
_decode_request: Final = msgspec.json.Decoder(ChatRequest).decode
_decode_fields: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_options: Final = msgspec.json.Decoder(dict[str, Raw] | None).decode
encode: Final = msgspec.json.Encoder().encode


def read_chat(body: bytes) -> tuple[ChatRequest, dict[str, Raw]]:
    """Read a chat request, as the fields to act on and as all fields by name.

    Raises:
        BadRequest: What is wrong, where, and what was expected.
    """
    request = read_json(body, _decode_request)
    fields = {name: raw for name, raw in _decode_fields(body).items() if name not in OWN_FIELDS}
    return request, fields


def with_usage(options: Raw | None) -> Raw:
    """Return a request's stream options so that its provider says what the answer has cost.

    Providers do not say it in a stream unless they are asked; what else was asked for stays.
    """
    asked = _decode_options(options or b"null") or {}
    return Raw(encode({**asked, "include_usage": True}))


def is_content(value: object) -> bool:
    """Tell whether a value is an array of content parts, as a message may have for its content."""
    return isinstance(value, list) and bool(value) and all(map(_is_part, value))


def _is_part(value: object) -> bool:
    return isinstance(value, dict) and (kind := value.get("type")) in PARTS and kind in value


def read_json(body: bytes, decode: Callable[[bytes], T]) -> T:
    """Decode a peer's JSON, saying what is wrong with it in words a person can act on."""
    try:
        body.decode()
        return decode(body)
    except UnicodeDecodeError as fault:
        raise BadRequest(f"The body is not UTF-8 (byte {fault.start}).", code="invalid_json") from None
    except msgspec.ValidationError as fault:
        raise _explain(str(fault)) from None
    except msgspec.DecodeError as fault:
        raise BadRequest(f"The body is not JSON: {fault}", code="invalid_json") from None
    except RecursionError:
        raise BadRequest("The body is nested too deeply.", code="invalid_json") from None


def _explain(text: str) -> BadRequest:
    place = _PLACE.match(text)
    what, where = (place["what"], place["where"]) if place else (text, "")
    if missing := _MISSING.search(what):
        where = f"{where}.{missing['name']}" if where else missing["name"]
    said = f"{where}: {what[0].lower()}{what[1:]}" if where else what
    return BadRequest(said[:MAX_FAULT_CHARS], param=where or None)


def error_body(error: ApexError) -> ErrorBody:
    """Put an error into OpenAI's words."""
    told = ErrorBody(error.message, error.type, error.told_code, error.param)
    if isinstance(error, ConfigRefused) and error.faults:
        told.faults = [
            {"path": path, "line": line or None, "message": said} for path, line, said in error.faults
        ]
    return told


def encode_error(error: ApexError, request_id: str) -> bytes:
    """Write the error envelope."""
    return encode(ErrorEnvelope(error_body(error), request_id))
