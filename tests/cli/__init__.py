"""The command: in this process where it can be, as a real one where signals matter."""
