"""The embedded model: sentences of plugins matched to tool calls, with no provider at all.

The only room that knows hassil and the answer templates.
"""

from apexbridge_trio.intents.model import IntentModel

__all__ = ["IntentModel"]
