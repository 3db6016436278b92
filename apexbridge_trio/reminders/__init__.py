"""Reminders: when they are due, that each fires once, and what they do then."""

from apexbridge_trio.reminders.own import OwnReminders, PluginReminders
from apexbridge_trio.reminders.reminders import Reminders
from apexbridge_trio.reminders.wanted import read_wanted

__all__ = ["OwnReminders", "PluginReminders", "Reminders", "read_wanted"]
