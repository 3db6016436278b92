"""The arguments of a call against the schema a plugin declares."""

from typing import Any

import pytest

from apexbridge_trio.errors import ConfigInvalid, ToolFailed
from apexbridge_trio.plugins.arguments import MAX_FAULTS, ArgumentSchema

SCHEMA = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {"name": {"$ref": "#/$defs/name"}, "list": {"type": "array", "items": {"type": "integer"}}},
    "$defs": {"name": {"type": "string", "minLength": 1}},
}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, '"name" is a required property'),
        ({"name": 5}, 'name: 5 is not of type "string"'),
        ({"name": "x", "list": [1, "b"]}, 'list.1: "b" is not of type "integer"'),
        ({"name": "x", "other": 1}, "Additional properties are not allowed ('other' was unexpected)"),
        ({"name": 5, "list": 6}, 'name: 5 is not of type "string"; list: 6 is not of type "array"'),
        (["x"], "The arguments are not a JSON object."),
    ],
)
def test_each_fault_has_its_place(arguments: Any, said: str) -> None:
    with pytest.raises(ToolFailed) as caught:
        ArgumentSchema(SCHEMA).check(arguments)
    assert caught.value.code == "invalid_arguments"
    assert sorted(caught.value.message.split("; ")) == sorted(said.split("; "))


def test_what_fits_passes() -> None:
    ArgumentSchema(SCHEMA).check({"name": "x", "list": [1, 2]})


def test_many_faults_are_told_in_part() -> None:
    with pytest.raises(ToolFailed) as caught:
        ArgumentSchema(SCHEMA).check({"name": "x", "list": ["x"] * 50})
    assert caught.value.message.count(";") == MAX_FAULTS - 1


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "objekt"}, "objekt"),
        ({"properties": 5}, "5 is not of type"),
        ({"$ref": "#/nowhere"}, "does not exist"),
        ({"pattern": "("}, "regex"),
        ({"$ref": "http://127.0.0.1:9/schema"}, "http://127.0.0.1:9/schema is not fetched"),
        ({"$ref": "file:///etc/passwd"}, "file:///etc/passwd is not fetched"),
    ],
)
def test_a_bad_schema_is_refused_and_nothing_is_fetched(schema: Any, said: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        ArgumentSchema(schema)
    assert said in caught.value.message
