"""Tests of the plugin rooms and of the shipped plugins."""
