"""What every test stands on: the quiet check and the kill at every step."""
