"""All that a hub must not lose, in one file; and back again."""

from apexbridge_trio.backup.archive import Written, write_backup
from apexbridge_trio.backup.reading import Backup, open_backup
from apexbridge_trio.backup.restore import finish_restore, restore_noted, stage

__all__ = ["Backup", "Written", "finish_restore", "open_backup", "restore_noted", "stage", "write_backup"]
