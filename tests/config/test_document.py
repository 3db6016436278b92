"""A text that is changed keeps its comments and its order, and says exactly what was meant."""

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apexbridge_trio.config.document import edited, masked, without_empty
from apexbridge_trio.config.patch import merged
from apexbridge_trio.redaction import hide
from tests.config.test_shipped import EXAMPLES

HOUSE = """# my house

[chat]          # of chats
max_rounds = 8  # few
# a reason
timeout_s = 300.0

[[upstreams]]
name = "a"      # the first
base_url = "http://a/v1"
headers = { "X-Key" = "a-key-of-mine" } # mine

# the second one
[[upstreams]]
name = "b"
base_url = "http://b/v1"

[[models]]
id = "m"
upstream = "a"
"""


def patched(patch: Any, text: str = HOUSE) -> str:
    before = tomllib.loads(text)
    return edited(text, before, merged(before, patch))


def test_one_value_changes_one_line() -> None:
    assert patched({"chat": {"max_rounds": 4}}) == HOUSE.replace("= 8  # few", "= 4  # few")


def test_nothing_changes_nothing() -> None:
    assert patched({"chat": {"max_rounds": 8}, "nodes": None}) == HOUSE


def test_a_default_again_takes_its_line_away() -> None:
    assert patched({"chat": {"max_rounds": None}}) == HOUSE.replace("max_rounds = 8  # few\n", "")


def test_a_new_section_has_its_own_heading() -> None:
    assert patched({"nodes": {"max_queued": 3}}).endswith('upstream = "a"\n\n[nodes]\nmax_queued = 3\n')


GUEST = '[limits.keys."aaaa"] # the guest\nchats_per_minute = 1\n'


def test_a_section_below_others_has_a_heading_as_they_have() -> None:
    added = patched({"limits": {"keys": {"bbbb": {"tokens_per_day": 10}}}}, GUEST)
    assert added == f"{GUEST}\n[limits.keys.bbbb]\ntokens_per_day = 10\n"


def test_a_heading_that_was_not_there_does_not_say_the_comment_of_another() -> None:
    added = patched({"limits": {"chats_per_minute": 4}}, GUEST)
    assert added == f"[limits]\nchats_per_minute = 4\n\n{GUEST}"


def test_entries_that_stay_keep_their_comments() -> None:
    a, b = tomllib.loads(HOUSE)["upstreams"]
    text = patched({"upstreams": [{**b, "attempts": 2}, {**a, "headers": {"X-Key": "another-key"}}]})
    assert 'name = "a"      # the first' in text
    assert '"X-Key" = "another-key" } # mine' in text
    assert [one["name"] for one in tomllib.loads(text)["upstreams"]] == ["b", "a"]


def test_line_ends_of_another_system_stay() -> None:
    text = HOUSE.replace("\n", "\r\n")
    assert patched({"chat": {"max_rounds": 4}}, text) == text.replace("= 8  #", "= 4  #")


def test_what_is_added_ends_its_lines_as_the_rest_does() -> None:
    text = HOUSE.replace("\n", "\r\n")
    changed = patched({"chat": {"timeout_s": 4.5}, "log": {"level": "debug"}}, text)
    assert ("timeout_s = 4.5\r\n" in changed, 'level = "debug"\r\n' in changed) == (True, True)
    assert changed.count("\n") == changed.count("\r\n")
    assert patched({"log": {"level": "debug"}}, text + "\n").count("\r\n") == text.count("\r\n")


def test_what_is_kept_of_a_text_has_no_secret() -> None:
    hide("sk-of-the-comment")
    text = HOUSE.replace("# my house", "# my house: sk-of-the-comment")
    shown, lost = masked(text)
    assert (shown, lost) == (HOUSE.replace("a-key-of-mine", "***").replace("my house", "my house: ***"), [])
    shown, lost = masked(text + 'system = "say sk-of-the-comment"\n')
    assert (lost, "sk-of" in shown) == (["models[0].system"], False)


@pytest.mark.parametrize(
    "said",
    [
        '[[plugins.mcp]]  # mine\nname = "z"\nurl = "{}"\n',
        '[plugins]\nmcp = [{{ name = "z", url = "{}" }}]\n',
        'plugins.mcp = [{{ name = "t", command = ["x"] }}, {{ name = "z", url = "{}" }}]\n',
    ],
)
def test_what_is_kept_of_a_text_has_no_address_of_an_mcp_server(said: str) -> None:
    rest = "[chat]\nmax_rounds = 3  # few\n"
    text = said.format("https://h:1/s/key?k=key") + rest
    assert masked(text) == (said.format("https://h:1/***") + rest, [])


@pytest.mark.parametrize("inner", ["[" * 150 + "]" * 150, "[" * 101 + "]" * 101])
def test_a_text_that_can_not_be_masked_is_not_kept(inner: str) -> None:
    text = f'{HOUSE}[[triggers]]\nname = "t"\nargs = {{ a = {inner} }}\n'
    assert masked(text) == ("", ["the whole text"])


def test_a_number_that_is_none_is_no_reason_to_keep_no_text() -> None:
    text = f'{HOUSE}[[triggers]]\nname = "t"\nargs = {{ a = nan }}\n'
    assert masked(text) == (text.replace("a-key-of-mine", "***"), [])


def test_tables_in_what_a_tool_takes_are_written_in_its_line() -> None:
    args = {"items": [{"name": "milk", "shops": [{"near": True}]}, {}]}
    text = patched({"triggers": [{"name": "t", "args": args}]})
    assert tomllib.loads(text)["triggers"] == [{"name": "t", "args": args}]
    assert len(text.splitlines()) == len(HOUSE.splitlines()) + 4


def test_a_section_that_is_emptied_may_go() -> None:
    text = patched({"plugins": {"mcp": [{"name": "time"}]}})
    assert tomllib.loads(patched({"plugins": {"mcp": None}}, text)) == tomllib.loads(HOUSE)


# What a tool takes may be any JSON, as deep as it likes.
ARGS = st.recursive(
    st.booleans() | st.integers(-9, 2**63) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
PATCHES = st.fixed_dictionaries(
    {},
    optional={
        "chat": st.none() | st.fixed_dictionaries({}, optional={"max_rounds": st.none() | st.integers(1, 9), "default_model": st.text(max_size=9)}),
        "upstreams": st.none()
        | st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from(["openai", "zhipu", "new", "é\n"])},
                optional={
                    "attempts": st.integers(1, 9),
                    "headers": st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2),
                    "models": st.lists(st.text(max_size=4), max_size=2),
                },
            ),
            max_size=4,
        ),
        "plugins": st.fixed_dictionaries({}, optional={"mcp": st.none() | st.lists(st.fixed_dictionaries({"name": st.sampled_from(["time", "x"])}, optional={"url": st.text(max_size=3)}), max_size=2)}),
        "triggers": st.lists(st.fixed_dictionaries({"name": st.sampled_from(["a", "b"]), "args": st.dictionaries(st.text(max_size=3), ARGS, max_size=2)}), max_size=2),
        "callbacks": st.fixed_dictionaries({"signing_secret_files": st.dictionaries(st.text(max_size=3), st.none() | st.lists(st.text(max_size=3)), max_size=2)}),
    },
)  # fmt: skip


@pytest.mark.parametrize("text", ["", HOUSE, EXAMPLES], ids=["empty", "house", "examples"])
def test_any_patch_says_what_was_meant(text: str) -> None:
    @settings(max_examples=25)  # the long text takes 10 ms to parse
    @given(st.lists(PATCHES, min_size=1, max_size=3))
    def check(patches: list[dict[str, Any]]) -> None:
        said, meant = text, tomllib.loads(text)
        for patch in patches:
            meant = merged(meant, patch)
            said = patched(patch, said)
        assert without_empty(tomllib.loads(said)) == without_empty(meant)

    check()
