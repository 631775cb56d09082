from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from pipeline.profiles import mask
from pipeline.profiles._signing import BodyHmac, StandardWebhooks, public_key
from tests.profiles.makers import ID

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
PRIVATE = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
PUBLIC = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
BODY = b'{"test": 2432232314}'
SENT_S = 1614265330
V1 = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
V1A = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
STANDARD = StandardWebhooks()
MONITHQ = BodyHmac("monithq_hmac", "X-MonitHQ-Signature")
RAW_KEYS = st.binary(min_size=24, max_size=64)


def _headers(secrets: Mapping[str, str], body: bytes = BODY, sent_s: int = SENT_S) -> dict[str, str]:
    signed = dict(STANDARD.signer(secrets)(ID, str(sent_s), body))
    return {"webhook-id": ID, "webhook-timestamp": str(sent_s), **signed}


@pytest.mark.parametrize(("secret", "signature"), [(SECRET, V1), (SECRET.rstrip("="), V1), (PRIVATE, V1A)])
def test_the_published_vectors(secret: str, signature: str) -> None:
    """The known signatures for the known keys, id, time and body: HMAC-SHA256 and ed25519."""
    assert _headers({"secret": secret})["webhook-signature"] == signature


@pytest.mark.parametrize("length", [24, 25, 26, 31, 32, 63, 64])
def test_a_key_works_with_and_without_padding(length: int) -> None:
    """`=` at the end of the base64 changes nothing, for each length of key that may be."""
    key = "whsec_" + base64.b64encode(bytes(range(length))).decode()
    assert STANDARD.refusal({"secret": key}) is None
    assert _headers({"secret": key}) == _headers({"secret": key.rstrip("=")})


@given(key=RAW_KEYS, body=st.binary())
def test_the_official_library_believes_us(key: bytes, body: bytes) -> None:
    """Its verifier accepts what we sign with any key over any text, and nothing that was changed on the way."""
    secret = "whsec_" + base64.b64encode(key).decode()
    text = body.decode("latin-1").encode()
    headers = _headers({"secret": secret}, text, int(datetime.now(UTC).timestamp()))
    verifier = Webhook(secret)
    with pytest.raises(WebhookVerificationError):
        verifier.verify(text + b" ", headers)
    assert _verified(verifier, text, headers)


def _verified(verifier: Webhook, body: bytes, headers: dict[str, str]) -> bool:
    """The library also parses the body, which need not be JSON here."""
    try:
        verifier.verify(body, headers)
    except WebhookVerificationError:
        return False
    except ValueError:
        return True
    return True


@pytest.mark.parametrize("previous", [OTHER, PRIVATE, f"{OTHER} {PRIVATE}"])
def test_every_unexpired_secret_signs(previous: str) -> None:
    """During a rotation the old keys sign along, so that a receiver with any of them believes the request."""
    headers = _headers({"secret": SECRET, "previous": previous})
    signatures = headers["webhook-signature"].split(" ")
    keys = [SECRET, *previous.split()]
    assert signatures == [_headers({"secret": key})["webhook-signature"] for key in keys]
    assert [STANDARD.verify(headers, BODY, {"secret": key}, SENT_S) for key in keys] == [None] * len(keys)


@pytest.mark.parametrize("secret", [SECRET, PRIVATE, PUBLIC])
def test_a_receiver_believes_only_what_was_signed(secret: str) -> None:
    """Another body, id, time, signature or version of it, or none, is refused; a public key is enough to verify."""
    signer = PRIVATE if secret == PUBLIC else secret
    good = _headers({"secret": signer})
    assert STANDARD.verify(good, BODY, {"secret": secret}, SENT_S) is None
    bad = [
        {**good, "webhook-id": "msg_other"},
        {**good, "webhook-timestamp": str(SENT_S + 1)},
        {**good, "webhook-signature": "v1,AAAA v1a,AAAA v2,x nonsense"},
        {**good, "webhook-signature": good["webhook-signature"].replace("v1", "v9")},
        {**good, "webhook-signature": ""},
        {**good, "webhook-signature": "v1,\udcff v1a,\udcff"},
    ]
    assert all(STANDARD.verify(headers, BODY, {"secret": secret}, SENT_S) for headers in bad)
    assert STANDARD.verify(good, BODY + b" ", {"secret": secret}, SENT_S)


@pytest.mark.parametrize("now_s", [SENT_S - 301, SENT_S + 301])
def test_an_old_request_cannot_be_sent_again(now_s: int) -> None:
    """More than five minutes from the receiver's clock is too far; five are not."""
    good = _headers({"secret": SECRET})
    assert "webhook-timestamp" in (STANDARD.verify(good, BODY, {"secret": SECRET}, now_s) or "")
    assert STANDARD.verify(good, BODY, {"secret": SECRET}, SENT_S + 300) is None
    assert STANDARD.verify({**good, "webhook-timestamp": "²"}, BODY, {"secret": SECRET}, SENT_S)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "plain text",
        "whsec_***",
        "whsec_é",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        PUBLIC,
        "whsk_" + base64.b64encode(bytes(31)).decode(),
        "whsk_" + base64.b64encode(bytes(64)).decode(),
        "whsk_" + base64.b64encode(bytes(33)).decode(),
    ],
)
def test_a_secret_that_cannot_sign_is_refused(secret: str) -> None:
    """A wrong prefix, no base64, too short or long, halves that do not belong together; the value is not repeated."""
    refused = STANDARD.refusal({"secret": secret})
    assert refused is not None
    assert refused[0] == "secret"
    assert not secret or secret not in refused[1]


@given(st.binary(min_size=32, max_size=32))
def test_generated_secrets_can_be_used(random: bytes) -> None:
    """What we generate passes our own check, signs, and is told apart by its prefix."""
    for scheme, algorithm, prefix in ((STANDARD, None, "whsec_"), (STANDARD, "ed25519", "whsk_"), (MONITHQ, None, "")):
        secrets = scheme.generate(random, algorithm)
        assert secrets["secret"].startswith(prefix)
        assert scheme.refusal(secrets) is None
        headers = {"webhook-id": ID, "webhook-timestamp": "1", **dict(scheme.signer(secrets)(ID, "1", BODY))}
        assert scheme.verify({name.lower(): text for name, text in headers.items()}, BODY, secrets, 1) is None


def test_a_secret_is_shown_by_its_ends() -> None:
    """`whsec_…abcd`; a short text shows nothing; an ed25519 key shows its public half, which receivers need."""
    assert STANDARD.masked({"secret": SECRET}) == {"secret": "whsec_…LaSw"}
    assert STANDARD.masked({"secret": PRIVATE}) == {"secret": "whsk_…vg==", "public_key": PUBLIC}
    assert MONITHQ.masked({"secret": "0123456789abcdef"}) == {"secret": "…cdef"}
    assert mask("short") == "…"
    assert public_key(PRIVATE) == PUBLIC


def test_monithq_signs_with_the_text_as_it_is_shown() -> None:
    """Lower-case hex without a prefix, the key never base64-decoded; any change of the body is refused."""
    secrets = {"secret": "whsec_ünïcode"}
    ((name, value),) = MONITHQ.signer(secrets)(ID, "1", BODY)
    assert (name, len(value), value) == ("X-MonitHQ-Signature", 64, value.lower())
    assert MONITHQ.verify({name.lower(): value}, BODY, secrets, 0) is None
    assert MONITHQ.verify({name.lower(): value.upper()}, BODY, secrets, 0)
    assert MONITHQ.verify({name.lower(): value}, BODY + b" ", secrets, 0)
    assert MONITHQ.verify({}, BODY, secrets, 0)


@pytest.mark.parametrize("secret", ["", "short", "x" * 257, "with\nnewline"])
def test_a_monithq_secret_can_be_typed(secret: str) -> None:
    """8 to 256 printable characters."""
    assert MONITHQ.refusal({"secret": secret}) is not None
    assert MONITHQ.refusal({"secret": "YOUR_WEBHOOK_SECRET"}) is None
