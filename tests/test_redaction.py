"""No spelling of a secret gets through, and ordinary words do."""

from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apexbridge_trio import redaction
from apexbridge_trio.redaction import hide, redact


@pytest.fixture(autouse=True)
def own_register(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_hidden", {})
    monkeypatch.setattr(redaction, "_longest_first", ())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer sk-abc.def", "Authorization: Bearer ***"),
        ("apexbridge.v1, bearer.YXB4X2E", "apexbridge.v1, bearer ***"),
        ("GET /log/VCP_Key=hunter2?level=info", "GET /log/VCP_Key=***?level=info"),
        ("/client/ABP_Key=a%20b%2Fc/x", "/client/ABP_Key=***"),
        ("/log/VCP_Key%3Dhunter2", "/log/VCP_Key=***"),
        ("/log/%56CP%5FKey%3dhunter%32%20x", "/log/VCP_Key=***"),
        ("key apx_k1f_AAAA-bbbb_cc is wrong", "key apx_*** is wrong"),
        ("POST /plugin-callback/~hunter2/suno/song-1", "POST /plugin-callback/~***/suno/song-1"),
        ("/plugin-callback/%7Eh%75nter2/suno", "/plugin-callback/~***/suno"),
        ("/plugin-callback/suno/song~1", "/plugin-callback/suno/song~1"),
        ("100 % of the tests", "100 % of the tests"),
        ("forbearer of keys", "forbearer of keys"),
        ("/v1/models/a%20b", "/v1/models/a%20b"),
    ],
)
def test_keys_are_known_by_their_shape(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_a_hidden_secret_is_masked_plain_and_encoded() -> None:
    hide("s3cret+with/all=\n")
    assert redact("<s3cret+with/all=>") == "<***>"
    assert redact("q=s3cret%2Bwith%2fall%3D&b=VCP_Key=%41bc") == "q=***&b=VCP_Key=***"


def test_the_longest_secret_is_masked_first() -> None:
    hide("secret-one")
    hide("secret-one-and-more")
    assert redact("secret-one-and-more") == "***"


def test_of_more_secrets_than_it_keeps_that_one_goes_which_was_named_longest_ago() -> None:
    secrets = [f"secret-number-{number:05}." for number in range(redaction.MOST_HIDDEN)]
    for secret in secrets:
        hide(secret)
    hide(secrets[0])  # in force still
    hide("one-more-secret")
    assert redact(f"{secrets[0]} {secrets[2]} one-more-secret") == "*** *** ***"
    assert redact(secrets[1]) == secrets[1]
    assert len(redaction._hidden) == len(redaction._longest_first) == redaction.MOST_HIDDEN


def test_placeholders_are_not_hidden() -> None:
    hide("ollama")
    hide("  ")
    assert redact("ollama answers") == "ollama answers"


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(before=st.text(max_size=20), after=st.text(max_size=20))
def test_whatever_stands_around_it(before: str, after: str) -> None:
    hide("correct horse")
    for spelling in ("correct horse", quote("correct horse"), "%63orrect%20horse"):
        assert "horse" not in redact(f"{before} {spelling} {after}")
