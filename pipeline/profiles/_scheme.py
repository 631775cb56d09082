"""Authentication schemes: how a request proves who sent it, seen from both ends."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

Headers = tuple[tuple[str, str], ...]
Signer = Callable[[str, str, bytes], Headers]
"""Makes the headers of a request from its `webhook-id`, its `webhook-timestamp` and its body."""

RANDOM_BYTES = 32
"""How many random bytes `generate` is given."""

_SHOWN_FROM = 16
_PREFIXES = ("whsec_", "whsk_", "whpk_")


@dataclass(frozen=True, slots=True)
class SecretField:
    """One value that a scheme needs, by the name that the API gives it."""

    name: str
    label: str
    required: bool = True
    secret: bool = True


class Scheme(Protocol):
    """A way to authenticate.

    `secrets` are the scheme's fields by name; with `previous`, where the scheme `overlaps`, what was just rotated away.
    `algorithms` are the choices for `generate`; the first is the default. A scheme that does not overlap holds one
    value in a header, so a rotation changes it at once.
    """

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def fields(self) -> tuple[SecretField, ...]: ...
    @property
    def algorithms(self) -> tuple[str, ...]: ...
    @property
    def overlaps(self) -> bool: ...
    @property
    def headers(self) -> tuple[str, ...]:
        """The names of the headers that it sets: no customer may add one of these."""

    def generate(self, random: bytes, algorithm: str | None = None) -> dict[str, str]:
        """New secrets from `RANDOM_BYTES` random bytes; empty where the customer alone can give them, or needs none."""

    def refusal(self, secrets: Mapping[str, str]) -> tuple[str, str] | None:
        """The field that cannot be used and a plain reason that does not repeat its value; None if all can."""

    def masked(self, secrets: Mapping[str, str]) -> dict[str, str]:
        """What may be shown of the secrets after they have been shown once."""

    def signer(self, secrets: Mapping[str, str]) -> Signer:
        """Makes the headers of requests, with keys decoded once. The secrets must have passed `refusal`."""

    def verify(self, headers: Mapping[str, str], body: bytes, secrets: Mapping[str, str], now_s: float) -> str | None:
        """As a receiver: why the request is not to be trusted; None if it is. Header names are in lower case."""


def mask(secret: str) -> str:
    """`whsec_…abcd`: the prefix and the last four characters, but nothing of a short secret."""
    prefix = next((known for known in _PREFIXES if secret.startswith(known)), "")
    return f"{prefix}…{secret[-4:]}" if len(secret) >= _SHOWN_FROM else "…"


def missing(fields: tuple[SecretField, ...], secrets: Mapping[str, str]) -> tuple[str, str] | None:
    """The first required field that is not there, with the reason."""
    return next(((f.name, "is required") for f in fields if f.required and not secrets.get(f.name)), None)


def mask_all(fields: tuple[SecretField, ...], secrets: Mapping[str, str]) -> dict[str, str]:
    """The fields that are there, masked where they are secret."""
    return {f.name: mask(secrets[f.name]) if f.secret else secrets[f.name] for f in fields if secrets.get(f.name)}


def same(given: str, expected: str) -> bool:
    """Compares two header values in constant time; what a header held that is no UTF-8 differs from all that is."""
    return hmac.compare_digest(raw(given), raw(expected))


def raw(value: str) -> bytes:
    """The bytes of a header's value as it came, also where they were no UTF-8."""
    return value.encode(errors="surrogateescape")
