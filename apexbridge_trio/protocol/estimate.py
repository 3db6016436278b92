"""How many tokens a prompt may have, where its provider has not said: an estimate, by its bytes."""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

# Of English 4 characters are a token (OpenAI's rule of thumb); of Chinese one or two, of 3 bytes each.
BYTES_A_TOKEN: Final = 4
# The most of a picture, a sound, a file: providers count what is in it, from 85 for a small picture to
# some thousands. By its bytes in base64 it would be a hundred times as many.
MEDIA_TOKENS: Final = 1000

_MEDIA_BYTES: Final = MEDIA_TOKENS * BYTES_A_TOKEN
# Where OpenAI's content parts have such bytes. Inside of a text its quotes would be escaped, so that no text
# looks like one; a search in raw bytes holds the loop up for no longer than reading them did.
_MEDIA: Final = re.compile(rb'"(?:url|data|file_data)"\s*:\s*"([^"]{%d,})"' % (_MEDIA_BYTES + 1))
_encode: Final = msgspec.json.Encoder().encode


def prompt_tokens(fields: Mapping[str, Any]) -> int:
    """Estimate what a chat request's prompt costs: its messages, and the tools that are offered.

    Args:
        fields: Of the request, as they are sent: raw JSON, or what encodes to it.
    """
    messages = _encode(fields["messages"])
    too_much = sum(len(found[1]) - _MEDIA_BYTES for found in _MEDIA.finditer(messages))
    return (len(messages) - too_much + len(_encode(fields.get("tools") or []))) // BYTES_A_TOKEN
