"""Signatures over the body: Standard Webhooks v1 and v1a, and the plain HMAC in a header of the product's own."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pipeline.profiles._scheme import Headers, SecretField, Signer, mask_all, missing, raw, same

HMAC_SHA256, ED25519 = "hmac-sha256", "ed25519"
SHARED, PRIVATE, PUBLIC = "whsec_", "whsk_", "whpk_"
"""The prefixes tell what a key is: shared (v1), private or public (v1a)."""
TOLERANCE_S = 300
"""How far a `webhook-timestamp` may be from now, so that a recorded request cannot be sent again later."""

_SHARED_BYTES = range(24, 65)
_SEED_BYTES = 32
_BLOCK = 64
_TEXT = range(8, 257)
_INNER, _OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))

_Sign = Callable[[bytes], str]


@dataclass(frozen=True, slots=True)
class StandardWebhooks:
    """The Standard Webhooks specification: `id.timestamp.body` signed with every unexpired key.

    `secret` is `whsec_` and base64 of 24 to 64 bytes (HMAC-SHA256, v1), or `whsk_` and base64 of an ed25519 key: its
    32-byte seed alone or followed by the public key (v1a). `previous` holds the keys that were rotated away and sign
    along, separated by blanks.
    """

    name: str = "standard_webhooks"
    title: str = "Standard Webhooks signature"
    fields: tuple[SecretField, ...] = (SecretField("secret", "Signing secret"),)
    algorithms: tuple[str, ...] = (HMAC_SHA256, ED25519)
    overlaps: bool = True
    headers: tuple[str, ...] = ("webhook-signature",)

    def generate(self, random: bytes, algorithm: str | None = None) -> dict[str, str]:
        """A `whsec_` secret, or for ed25519 a `whsk_` one with its public half."""
        if algorithm != ED25519:
            return {"secret": SHARED + _base64(random)}
        seed = random[:_SEED_BYTES]
        return {
            "secret": PRIVATE
            + _base64(seed + Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw())
        }

    def refusal(self, secrets: Mapping[str, str]) -> tuple[str, str] | None:
        """A key that cannot be read, or is too short or too long."""
        return missing(self.fields, secrets) or next(
            (("secret", reason) for key in _keys(secrets) if (reason := _key_refusal(key))), None
        )

    def masked(self, secrets: Mapping[str, str]) -> dict[str, str]:
        """The end of the secret; for ed25519 also `public_key`, which receivers verify with."""
        shown = mask_all(self.fields, secrets)
        key = secrets.get("secret", "")
        return {**shown, "public_key": public_key(key)} if key.startswith(PRIVATE) else shown

    def signer(self, secrets: Mapping[str, str]) -> Signer:
        """One `webhook-signature` header with a signature of each key."""
        signs = tuple(map(_sign_with, _keys(secrets)))

        def sign(webhook_id: str, timestamp: str, body: bytes) -> Headers:
            signed = b"%b.%b.%b" % (webhook_id.encode(), timestamp.encode(), body)
            return (("webhook-signature", " ".join([one(signed) for one in signs])),)

        return sign

    def verify(self, headers: Mapping[str, str], body: bytes, secrets: Mapping[str, str], now_s: float) -> str | None:
        """The time first, then any signature against any key."""
        timestamp = headers.get("webhook-timestamp", "")
        if reason := _time_refusal(timestamp, now_s):
            return reason
        signed = b"%b.%b.%b" % (raw(headers.get("webhook-id", "")), timestamp.encode(), body)
        given = headers.get("webhook-signature", "").split()
        if not given:
            return "there is no webhook-signature"
        good = any(_is_signature(key, signed, signature) for key in _keys(secrets) for signature in given)
        return None if good else "no webhook-signature fits the secret"


@dataclass(frozen=True, slots=True)
class BodyHmac:
    """Lower-case hex of HMAC-SHA256 over the raw body, in `header`.

    The key is the secret's own text in UTF-8, never decoded.
    """

    name: str
    header: str
    title: str = "Body signature"
    fields: tuple[SecretField, ...] = (SecretField("secret", "Secret"),)
    algorithms: tuple[str, ...] = ()
    overlaps: bool = False

    @property
    def headers(self) -> tuple[str, ...]:
        """The signature's header."""
        return (self.header,)

    def generate(self, random: bytes, _algorithm: str | None = None) -> dict[str, str]:
        """The random bytes in hex: text that every language reads alike."""
        return {"secret": random.hex()}

    def refusal(self, secrets: Mapping[str, str]) -> tuple[str, str] | None:
        """A secret that is too short, too long, or cannot be typed."""
        if found := missing(self.fields, secrets):
            return found
        secret = secrets["secret"]
        if len(secret) not in _TEXT or not secret.isprintable():
            return "secret", f"must be {_TEXT.start} to {_TEXT.stop - 1} printable characters"
        return None

    def masked(self, secrets: Mapping[str, str]) -> dict[str, str]:
        """The end of the secret."""
        return mask_all(self.fields, secrets)

    def signer(self, secrets: Mapping[str, str]) -> Signer:
        """The signature alone: neither id nor time go into it."""
        digest, header = _hmac_sha256(secrets["secret"].encode()), self.header
        return lambda _webhook_id, _timestamp, body: ((header, digest(body).hex()),)

    def verify(self, headers: Mapping[str, str], body: bytes, secrets: Mapping[str, str], _now_s: float) -> str | None:
        """Compares the whole signature in constant time."""
        given = headers.get(self.header.lower(), "")
        expected = hmac.new(secrets["secret"].encode(), body, hashlib.sha256).hexdigest()
        return None if same(given, expected) else f"{self.header} does not fit the body"


def public_key(private: str) -> str:
    """`whpk_…`, the public half of a `whsk_` key."""
    seed = _decode(private.removeprefix(PRIVATE))[:_SEED_BYTES]
    return PUBLIC + _base64(Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw())


def _keys(secrets: Mapping[str, str]) -> Iterable[str]:
    return [secrets["secret"], *secrets.get("previous", "").split()]


def _sign_with(key: str) -> _Sign:
    if key.startswith(PRIVATE):
        private = Ed25519PrivateKey.from_private_bytes(_decode(key.removeprefix(PRIVATE))[:_SEED_BYTES])
        return lambda signed: "v1a," + _base64(private.sign(signed))
    digest = _hmac_sha256(_decode(key.removeprefix(SHARED)))
    return lambda signed: "v1," + _base64(digest(signed))


def _hmac_sha256(key: bytes) -> Callable[[bytes], bytes]:
    """HMAC-SHA256 (RFC 2104) with the key's two blocks hashed once: half the time of `hmac.digest` for a body."""
    block = (key if len(key) <= _BLOCK else hashlib.sha256(key).digest()).ljust(_BLOCK, b"\0")
    inner, outer = hashlib.sha256(block.translate(_INNER)), hashlib.sha256(block.translate(_OUTER))

    def digest(message: bytes) -> bytes:
        first, second = inner.copy(), outer.copy()
        first.update(message)
        second.update(first.digest())
        return second.digest()

    return digest


def _is_signature(key: str, signed: bytes, given: str) -> bool:
    version, _, text = given.partition(",")
    if key.startswith(SHARED):
        expected = _base64(hmac.digest(_decode(key.removeprefix(SHARED)), signed, "sha256"))
        return version == "v1" and same(text, expected)
    public = public_key(key) if key.startswith(PRIVATE) else key
    return version == "v1a" and _is_ed25519(_decode(public.removeprefix(PUBLIC)), signed, text)


def _is_ed25519(public: bytes, signed: bytes, text: str) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(_decode(text), signed)
    except (InvalidSignature, binascii.Error):
        return False
    return True


def _time_refusal(timestamp: str, now_s: float) -> str | None:
    if not (timestamp.isascii() and timestamp.isdigit()):
        return "webhook-timestamp is not a number of seconds"
    away = int(timestamp[:20]) - now_s
    return None if abs(away) <= TOLERANCE_S else f"webhook-timestamp is more than {TOLERANCE_S} s away from now"


def _key_refusal(key: str) -> str | None:
    prefix = next((known for known in (SHARED, PRIVATE) if key.startswith(known)), None)
    if prefix is None:
        return f"must begin with {SHARED} (HMAC-SHA256) or {PRIVATE} (ed25519)"
    try:
        key_bytes = _decode(key.removeprefix(prefix))
    except binascii.Error:
        return f"must be base64 after {prefix}"
    return _shared_refusal(key_bytes) if prefix == SHARED else _private_refusal(key_bytes)


def _shared_refusal(key: bytes) -> str | None:
    least, most = _SHARED_BYTES.start, _SHARED_BYTES.stop - 1
    return None if len(key) in _SHARED_BYTES else f"must hold {least} to {most} random bytes"


def _private_refusal(key: bytes) -> str | None:
    seed, public = key[:_SEED_BYTES], key[_SEED_BYTES:]
    if len(seed) < _SEED_BYTES or len(public) not in {0, _SEED_BYTES}:
        return "must hold an ed25519 key: 32 bytes, or 64 with the public key"
    if public and Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw() != public:
        return "holds a public key that does not belong to the private one"
    return None


def _base64(value: bytes) -> str:
    return binascii.b2a_base64(value, newline=False).decode()


def _decode(text: str) -> bytes:
    """Standard base64, with or without its padding. Raises `binascii.Error` (a ValueError) for anything else."""
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)
    except ValueError as error:  # a character outside ASCII is one too
        raise binascii.Error("not base64") from error
