"""Config: found, read, checked."""
