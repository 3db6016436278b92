"""Tests of the nodes' room: the whole hub in memory, nodes that drive the real channel."""
