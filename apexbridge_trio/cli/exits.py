"""Exit codes, as scripts rely on them (docs/cli.md)."""

from enum import IntEnum

from apexbridge_trio.errors import ApexError, BadRequest, ConfigInvalid, StoreUnusable


class Exit(IntEnum):
    """How a command ended."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    AUTH = 4
    NOT_FOUND = 5
    INTERRUPTED = 130


class Failure(Exception):
    """A command can not do what it was asked for; the message is one line for people."""

    def __init__(self, message: str, exit_code: Exit) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def exit_code_of(fault: Failure | ApexError) -> Exit:
    """Return the exit code of a fault; one of our own rooms is the caller's usage or the hub's failure."""
    if isinstance(fault, Failure):
        return fault.exit_code
    is_usage = isinstance(fault, ConfigInvalid | BadRequest | StoreUnusable)
    return Exit.USAGE if is_usage else Exit.FAILED
