"""Which plugins an administrator has switched off: rows, no rules."""

from apexbridge_trio.store.database import Store


class PluginRows:
    """The rows, through one connection. A name stays, whether there is such a plugin or not."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def disabled(self) -> set[str]:
        """Return the names of those that are switched off."""
        return {row[0] for row in self._store.execute("SELECT name FROM disabled_plugins")}

    def disable(self, name: str, now_ms: int) -> None:
        """Keep a name as switched off; a second time changes nothing."""
        self._store.execute("INSERT OR IGNORE INTO disabled_plugins VALUES (?, ?)", (name, now_ms))

    def enable(self, name: str) -> None:
        """Forget that a name was switched off."""
        self._store.execute("DELETE FROM disabled_plugins WHERE name = ?", (name,))
