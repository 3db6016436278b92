"""Known vectors, rotation, time, and whatever else may be sent as a signature."""

import hmac
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbridge_trio.errors import SignatureInvalid
from apexbridge_trio.protocol.signature import (
    TOLERANCE_S,
    check_legacy,
    check_webhook,
    sign_legacy,
    sign_webhook,
    webhook_key,
)

# The vector of the Standard Webhooks specification's own test suite.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
NOW = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

OTHER = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


def headers(signature=SIGNATURE, *, message_id=ID, timestamp=NOW):
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": signature}


def test_the_specification_s_vector():
    assert sign_webhook(SECRET, ID, NOW, BODY) == SIGNATURE
    assert check_webhook([SECRET], headers(), BODY, now=NOW).id == f"id:{ID}"


@pytest.mark.parametrize(
    ("secrets", "signature"),
    [
        ([OTHER, SECRET], SIGNATURE),
        ([SECRET], f"{sign_webhook(OTHER, ID, NOW, BODY)} {SIGNATURE}"),
        ([SECRET], f"v1a,c29tZXRoaW5nIGFzeW1tZXRyaWM= {SIGNATURE}"),
    ],
    ids=["the hub has two secrets", "the sender signs twice", "another version beside it"],
)
def test_a_secret_is_replaced_without_a_gap(secrets, signature):
    assert check_webhook(secrets, headers(signature), BODY, now=NOW)


@pytest.mark.parametrize(
    ("secrets", "sent", "body"),
    [
        ([SECRET], headers(), BODY + b" "),
        ([SECRET], headers(message_id="msg_other"), BODY),
        ([SECRET], headers(timestamp=NOW + 1), BODY),
        ([SECRET], headers(SIGNATURE.removeprefix("v1,")), BODY),
        ([SECRET], headers(SIGNATURE.replace("v1,", "v1a,")), BODY),
        ([SECRET], headers(""), BODY),
        ([SECRET], headers("v1,£"), BODY),
        ([SECRET], headers(message_id=""), BODY),
        ([SECRET], headers(" ".join([*["v1,AAAA"] * 10, SIGNATURE])), BODY),
        ([OTHER], headers(), BODY),
        ([], headers(), BODY),
        ([SECRET], {}, BODY),
    ],
)
def test_what_is_not_right_is_refused(secrets, sent, body):
    with pytest.raises(SignatureInvalid):
        check_webhook(secrets, sent, body, now=NOW)


@pytest.mark.parametrize("away", [-TOLERANCE_S, TOLERANCE_S])
def test_five_minutes_to_either_side_are_taken_and_no_more(away):
    assert check_webhook([SECRET], headers(), BODY, now=NOW + away)
    with pytest.raises(SignatureInvalid, match="300 s away"):
        check_webhook([SECRET], headers(), BODY, now=NOW + away * 1.01)


@pytest.mark.parametrize("timestamp", ["", "soon", "-1", "1e9", "1614265330.5", "9" * 5000, "١٦"])
def test_a_timestamp_is_whole_seconds(timestamp):
    with pytest.raises(SignatureInvalid, match="not in seconds"):
        check_webhook([SECRET], headers(timestamp=timestamp), BODY, now=NOW)
    with pytest.raises(SignatureInvalid, match="not in seconds"):
        check_legacy(["s"], {"x-timestamp": timestamp}, BODY, now=NOW)


def test_a_secret_in_no_known_form_is_its_bytes():
    assert webhook_key("hunter2!") == b"hunter2!"
    assert webhook_key("whsec_not base64") == b"whsec_not base64"


def test_the_legacy_pair_signs_authorization_time_and_body():
    right = hmac.new(b"suno's", b"Bearer xyz" + b"1614265330" + BODY, sha256).hexdigest()
    assert sign_legacy("suno's", "Bearer xyz", NOW, BODY) == right
    sent = {"authorization": "Bearer xyz", "x-timestamp": str(NOW), "x-signature": right.upper()}
    assert check_legacy(["old", "suno's"], sent, BODY, now=NOW).id == f"signature:{right}"
    for change in ({"authorization": ""}, {"x-timestamp": str(NOW + 1)}, {"x-signature": right[:-1]}):
        with pytest.raises(SignatureInvalid, match="does not fit"):
            check_legacy(["suno's"], sent | change, BODY, now=NOW)
    with pytest.raises(SignatureInvalid, match="300 s away"):
        check_legacy(["suno's"], sent, BODY, now=NOW + 301)


def test_the_legacy_pair_without_authorization():
    sent = {"x-timestamp": str(NOW), "x-signature": sign_legacy("s", "", NOW, BODY)}
    assert check_legacy(["s"], sent, BODY, now=NOW)


@given(st.binary(max_size=200), st.text(min_size=1, max_size=30), st.text(max_size=30))
def test_what_is_signed_fits_and_nothing_else_does(body, secret, other):
    secret, other = secret.encode("utf-8", "replace").decode(), other.encode("utf-8", "replace").decode()
    sent = headers(sign_webhook(secret, ID, NOW, body))
    assert check_webhook([secret], sent, body, now=NOW)
    if webhook_key(other).rstrip(b"\0") != webhook_key(secret).rstrip(b"\0"):  # HMAC fills keys with zeros
        with pytest.raises(SignatureInvalid):
            check_webhook([other], sent, body, now=NOW)
