"""Pages of long lists: how many, and from where."""

from quart import request

from apexbridge_trio.errors import BadRequest


def whole(name: str, *, least: int, most: int, absent: int | None = None) -> int | None:
    """Return a whole number of the query.

    Raises:
        BadRequest: It is none, or not within its bounds.
    """
    text = request.args.get(name)
    if text is None:
        return absent
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and least <= int(text) <= most):
        raise BadRequest(f"{name}: expected a whole number from {least} to {most}.", param=name)
    return int(text)
