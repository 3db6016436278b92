"""What is said on the wire: bytes in, values out. No clock, no socket, no task lives here."""
