"""Devices of the people: one connection each, told what happens and asking for chats."""

from apexbridge_trio.clients.link import ClientLink

__all__ = ["ClientLink"]
