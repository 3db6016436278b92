"""What the hub costs and how fast it stops, measured beside others in one interleaved run."""
