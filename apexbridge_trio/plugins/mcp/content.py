"""What an MCP server answers: one JSON value, or the content parts of an OpenAI message."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.plugins.boundary import shown
from apexbridge_trio.plugins.output import Output

if TYPE_CHECKING:
    from mcp.types import CallToolResult, ContentBlock


def output_of(result: "CallToolResult") -> Output:
    """Return a result as the hub passes it on.

    Structured content is the result where there is any: the protocol has its text say the same. One
    text that is a JSON object or list is that value. Anything with an image or a sound is a list of
    content parts. Their bytes do not count as the result's size: a model does not read them as text.

    Raises:
        ToolFailed: The tool reported a failure; the message is its text.
    """
    texts = [text for block in result.content if (text := _text(block)) is not None]
    if result.is_error:
        raise ToolFailed(shown("\n".join(texts)) or "The tool failed and did not say why.")
    if len(texts) < len(result.content):
        return _parts(result.content)
    value = result.structured_content
    return _whole(_read("\n".join(texts)) if value is None else value)


def _whole(value: Any) -> Output:
    json = msgspec.json.encode(value)
    return Output(json, len(json))


def _parts(blocks: Sequence["ContentBlock"]) -> Output:
    texts = [text for block in blocks if (text := _text(block)) is not None]
    json = msgspec.json.encode([_part(block) for block in blocks])
    return Output(json, len(msgspec.json.encode(texts)))


def _part(block: "ContentBlock") -> dict[str, Any]:
    match block.type:
        case "image":
            return {"type": "image_url", "image_url": {"url": f"data:{block.mime_type};base64,{block.data}"}}
        case "audio":
            form = block.mime_type.rpartition("/")[2]
            return {"type": "input_audio", "input_audio": {"data": block.data, "format": form}}
    return {"type": "text", "text": _text(block) or ""}


def _text(block: "ContentBlock") -> str | None:
    """Return what a block says in words; None for one that is seen or heard."""
    match block.type:
        case "text":
            return block.text
        case "resource_link":
            return f"{block.title or block.name}: {block.uri}"
        case "resource":
            inner = block.resource
            return getattr(inner, "text", None) or f"{inner.uri} ({inner.mime_type or 'binary'})"
    return None


def _read(text: str) -> Any:
    """Return the JSON object or list that a text is, or the text."""
    if text.lstrip()[:1] in {"{", "["}:
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            pass
    return text
