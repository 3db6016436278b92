"""All that a hub must not lose, in one file; and back again."""

from apexbridge_trio.backup.archive import Written, write_backup
from apexbridge_trio.backup.reading import Backup, open_backup
from apexbridge_trio.backup.restore import finish_restore, stage, staged_by

__all__ = ["Backup", "Written", "finish_restore", "open_backup", "stage", "staged_by", "write_backup"]
