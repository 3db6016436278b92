"""The log channel: the last lines, then each as it is written, for who may see it.

Whose a line is, is whose work had it written (`origin`): a flight's owner, or a connection's key. A key of
the scope ``logs`` sees its tenant's lines, with a family only the family's. What has no owner is the hub's
own and is told to administrators only, and so is what an administrator does besides chatting: it may name
what is another tenant's.

Lines are redacted before they come here (`log`). Positions are numbers of the reader's own tenant, so that
they tell nothing of others.
"""

from apexbridge_trio.logs.line import Line
from apexbridge_trio.logs.link import LogLink
from apexbridge_trio.logs.logs import HISTORY, Logs
from apexbridge_trio.logs.reader import Reader
from apexbridge_trio.logs.ring import Ring
from apexbridge_trio.logs.style import Style
from apexbridge_trio.logs.wanted import Wanted

__all__ = ["HISTORY", "Line", "LogLink", "Logs", "Reader", "Ring", "Style", "Wanted"]
