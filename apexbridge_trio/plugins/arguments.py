"""The arguments of a call against the schema that the plugin declares."""

from typing import Any, Final, NoReturn

import jsonschema_rs

from apexbridge_trio.errors import ConfigInvalid, ToolFailed
from apexbridge_trio.plugins.boundary import shown

# The model repairs its call from these; more at a time do not help it.
MAX_FAULTS: Final = 5


class ArgumentSchema:
    """A JSON Schema, compiled once.

    Raises:
        ConfigInvalid: It is none, or it refers to a document outside of itself.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        try:
            self._schema = jsonschema_rs.validator_for(schema, retriever=_refuse)
        except ValueError as fault:
            raise ConfigInvalid(str(fault).partition("\n")[0]) from None

    def check(self, arguments: object) -> None:
        """Let only arguments pass that the schema allows.

        Raises:
            ToolFailed: Each fault with its place and what was expected, for the model to repair.
        """
        if not isinstance(arguments, dict):
            raise ToolFailed("The arguments are not a JSON object.", code="invalid_arguments")
        faults = []
        for fault in self._schema.iter_errors(arguments):
            place = ".".join(map(str, fault.instance_path))
            faults.append(f"{place}: {fault.message}" if place else fault.message)
            if len(faults) == MAX_FAULTS:
                break
        if faults:
            raise ToolFailed(shown("; ".join(faults)), code="invalid_arguments")


def _refuse(address: str) -> NoReturn:
    raise ValueError(f"{address} is not fetched")
