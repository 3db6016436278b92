"""What an inline plugin may have of the hub, if its manifest asks for it; nothing else is handed in.

Each permission is a small interface made for one call, and bound to who made it: a plugin can not
name another owner, so it can not serve one household with what is another's.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from apexbridge_trio.identity import Principal

PERMISSIONS: Final = frozenset({"reminders"})


class Reminding(Protocol):
    """The reminders of who called: ``permissions = ["reminders"]``.

    They only tell: a reminder that asks a model or runs a tool is set by its owner, over HTTP.
    """

    def waiting(self) -> list[dict[str, Any]]:
        """Return what is still to come, what comes next first, as ``GET /v1/reminders`` does."""
        ...

    async def add(self, text: str, **when: Any) -> dict[str, Any]:
        """Set a reminder and return it; `when` has the keys of ``POST /v1/reminders`` that say so.

        Raises:
            ToolFailed: It can not be set; the message says why.
        """
        ...

    async def remove(self, reminder_id: str) -> bool:
        """Remove a reminder; False if the caller has none of that id."""
        ...


RemindersOf = Callable[[Principal], Reminding]
