"""Each key of the schema says when a change of it counts; a key without a word is a failure."""

from typing import get_args

import msgspec

from apexbridge_trio.config import APPLIED, Callbacks, Chat, Config, Secret, Upstream, When, changed_keys
from apexbridge_trio.config.applied import keys_of


def test_every_key_has_a_word_and_every_word_a_key() -> None:
    assert sorted(APPLIED) == sorted(keys_of())
    assert set(APPLIED.values()) <= set(get_args(When))


def test_what_is_not_of_the_file_is_no_key() -> None:
    assert "callbacks.signing_secrets" not in keys_of()
    assert {"chat.max_rounds", "upstreams", "plugins.mcp"} <= set(keys_of())


def test_changed_keys() -> None:
    before = Config()
    assert changed_keys(before, Config()) == {}
    after = msgspec.structs.replace(before, chat=Chat(max_rounds=2), upstreams=[Upstream("a", "http://a")])
    assert changed_keys(before, after) == {"chat.max_rounds": "next-request", "upstreams": "next-request"}


def test_another_secret_in_the_same_file_is_a_change() -> None:
    def keyed(text: str) -> Config:
        return Config(upstreams=[Upstream("a", "http://a", api_key_file="k", api_key=Secret(text))])

    def signed(text: str) -> Config:
        return Config(callbacks=Callbacks(signing_secrets={"suno": [Secret(text)]}))

    assert changed_keys(keyed("the-first-one"), keyed("the-first-one")) == {}
    assert list(changed_keys(keyed("the-first-one"), keyed("the-second-one"))) == ["upstreams"]
    assert list(changed_keys(signed("the-first-one"), signed("the-second-one"))) == [
        "callbacks.signing_secret_files"
    ]
