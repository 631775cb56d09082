"""Credentials in a header: the product's own secret header, HTTP Basic, and none at all."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.profiles._scheme import Headers, SecretField, Signer, mask_all, missing, same

_LONGEST = 256


@dataclass(frozen=True, slots=True)
class SecretHeader:
    """The customer's own text, sent as it is in `header`; without a secret the header is left out."""

    name: str
    header: str
    title: str = "Secret header"
    fields: tuple[SecretField, ...] = (SecretField("secret", "Secret", required=False),)
    algorithms: tuple[str, ...] = ()
    overlaps: bool = False

    @property
    def headers(self) -> tuple[str, ...]:
        """The secret's header."""
        return (self.header,)

    def generate(self, _random: bytes, _algorithm: str | None = None) -> dict[str, str]:
        """Nothing: the text is the customer's choice."""
        return {}

    def refusal(self, secrets: Mapping[str, str]) -> tuple[str, str] | None:
        """Text that a header cannot carry unchanged (RFC 9110, section 5.5)."""
        secret = secrets.get("secret", "")
        if len(secret) > _LONGEST or not (secret.isascii() and secret.isprintable() and secret == secret.strip()):
            return "secret", f"must be at most {_LONGEST} printable ASCII characters, without blanks at its ends"
        return None

    def masked(self, secrets: Mapping[str, str]) -> dict[str, str]:
        """The end of the secret."""
        return mask_all(self.fields, secrets)

    def signer(self, secrets: Mapping[str, str]) -> Signer:
        """The same header with every request."""
        secret = secrets.get("secret")
        return _always(((self.header, secret),) if secret else ())

    def verify(self, headers: Mapping[str, str], _body: bytes, secrets: Mapping[str, str], _now_s: float) -> str | None:
        """Compares in constant time; where no secret was agreed there is nothing to check."""
        return _compare(headers, self.header, secrets.get("secret", ""))


@dataclass(frozen=True, slots=True)
class Basic:
    """HTTP Basic (RFC 7617), in UTF-8."""

    name: str = "basic"
    title: str = "Basic authentication"
    fields: tuple[SecretField, ...] = (
        SecretField("username", "Username", secret=False),
        SecretField("password", "Password"),
    )
    algorithms: tuple[str, ...] = ()
    overlaps: bool = False
    headers: tuple[str, ...] = ("Authorization",)

    def generate(self, _random: bytes, _algorithm: str | None = None) -> dict[str, str]:
        """Nothing: only the endpoint's owner knows the account."""
        return {}

    def refusal(self, secrets: Mapping[str, str]) -> tuple[str, str] | None:
        """A missing field, a control character, or a colon in the username."""
        if found := missing(self.fields, secrets):
            return found
        if ":" in secrets["username"]:
            return "username", "must not contain a colon"
        wrong = next(
            (f.name for f in self.fields if len(secrets[f.name]) > _LONGEST or not secrets[f.name].isprintable()), None
        )
        return (wrong, f"must be at most {_LONGEST} printable characters") if wrong else None

    def masked(self, secrets: Mapping[str, str]) -> dict[str, str]:
        """The username; nothing of the password, which a person may have chosen short."""
        return {name: "…" if name == "password" else text for name, text in mask_all(self.fields, secrets).items()}

    def signer(self, secrets: Mapping[str, str]) -> Signer:
        """The same `Authorization` with every request."""
        return _always((("Authorization", _basic(secrets)),))

    def verify(self, headers: Mapping[str, str], _body: bytes, secrets: Mapping[str, str], _now_s: float) -> str | None:
        """Compares in constant time."""
        return _compare(headers, "Authorization", _basic(secrets))


@dataclass(frozen=True, slots=True)
class Nothing:
    """No authentication."""

    name: str = "none"
    title: str = "None"
    fields: tuple[SecretField, ...] = ()
    algorithms: tuple[str, ...] = ()
    overlaps: bool = False
    headers: tuple[str, ...] = ()

    def generate(self, _random: bytes, _algorithm: str | None = None) -> dict[str, str]:
        """Nothing."""
        return {}

    def refusal(self, _secrets: Mapping[str, str]) -> tuple[str, str] | None:
        """Never."""
        return None

    def masked(self, _secrets: Mapping[str, str]) -> dict[str, str]:
        """Nothing."""
        return {}

    def signer(self, _secrets: Mapping[str, str]) -> Signer:
        """No headers."""
        return _always(())

    def verify(
        self, _headers: Mapping[str, str], _body: bytes, _secrets: Mapping[str, str], _now_s: float
    ) -> str | None:
        """Every request is as good as any other."""
        return None


def _always(headers: Headers) -> Signer:
    return lambda _webhook_id, _timestamp, _body: headers


def _basic(secrets: Mapping[str, str]) -> str:
    return "Basic " + base64.b64encode(f"{secrets['username']}:{secrets['password']}".encode()).decode()


def _compare(headers: Mapping[str, str], header: str, expected: str) -> str | None:
    given = headers.get(header.lower(), "")
    if not expected or same(given, expected):
        return None
    return f"{header} is not what was agreed" if given else f"there is no {header}"
