"""Triggers: what the hub does by itself when something happens, as ``[[triggers]]`` of the config say.

Theory of operation. `Triggers` listens to the events of all tenants, in the very step in which they are
published. Matching is synchronous and reads nothing but the event. What fires is put on disk: a notice
as any other, and what takes longer (a tool, a chat, a webhook) as a *firing*, a row that is there until
its end is. One task looks at the rows that are due and begins each in a task and a flight of its own; the
same task fires what has lasted long enough.

Rules.
- An event is only seen by the triggers of its tenant, and of its family; what they do is done in that
  tenant's name, by a principal whose id says how deep in a chain of triggers it is (`depth`).
- A tool or a chat is begun at most once: one that had begun when the hub ended is told, not run again. A
  webhook is sent until somebody has taken it, always with the same id.
- A trigger fires so often within an hour, and not on what came of a chain of three; see `guard`.
- All that comes of one event is written in one transaction (`step`), with the note that it was heard: what
  was on disk when the hub was killed, and nobody had heard, is heard by the next one.
- What lasts is on disk, and goes on over a restart and over a change of the config (`lasting`).
- One `except Exception` for each event and for each firing. A fault is logged and told to the owner.
"""

from apexbridge_trio.triggers.depth import depth_of
from apexbridge_trio.triggers.triggers import Triggers
from apexbridge_trio.triggers.webhook import Webhooks

__all__ = ["Triggers", "Webhooks", "depth_of"]
