"""Each key has its line, whatever stands around it."""

from apexbridge_trio.config.lines import Lines, written

TEXT = '''# chat = 1
top.dotted = 1
[chat]  # a comment
"max rounds" = 3
system = """
[log]
level = "no key"
"""
[[models]]
id = "a"
[models.options]
depth = 1
[[ models ]]
id = "b"
[[models.more]]
x = 1
[log]
level = { inner = 1 }
'''


def test_keys_and_tables_have_their_lines() -> None:
    lines = Lines(TEXT)
    assert lines.of(("top", "dotted")) == 2
    assert lines.of(("chat",)) == 3
    assert lines.of(("models", 0, "id")) == 10
    assert lines.of(("models", 0, "options", "depth")) == 12
    assert lines.of(("models", 1, "id")) == 14
    assert lines.of(("models", 1, "more", 0, "x")) == 16
    assert lines.of(("log",)) == 17


def test_what_has_no_line_has_that_of_what_is_around_it() -> None:
    lines = Lines(TEXT)
    assert lines.of(("log", "level", "inner")) == 18
    assert lines.of(("models", 1, "upstream")) == 13
    assert lines.of(("nowhere",)) == 0


def test_places_are_written_as_people_do() -> None:
    assert written(("models", 1, "fallback", 0)) == "models[1].fallback[0]"
    assert written(("chat",)) == "chat"
