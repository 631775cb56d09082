"""Secrets at rest: AES-256-GCM, bound to the place that they are kept at.

The deployment's keys seal each tenant's own key; that one seals the secrets of the tenant's webhooks. So a box cannot
be moved to another tenant, webhook, field or version, and removing a tenant's record makes all its secrets unreadable
wherever they still lie.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pipeline.errors import PipelineError, SettingsError
from pipeline.flow.deliver import ClientCertificate
from pipeline.flow.subscription import Sealed, Tenant

DATA_KEY, AUTH, HEADERS, CLIENT_CERTIFICATE = "data_key", "auth", "headers", "client_certificate"
"""The fields that are sealed: part of the associated data."""

KEY_BYTES = 32
_NONCE = 12


class Unreadable(PipelineError):
    """A sealed secret that cannot be opened: its key is not here, or it is not in the place that it was sealed for."""


@dataclass(frozen=True, slots=True, repr=False)
class Vault:
    """Seals with the first key, opens with the one that the box names.

    `keys` are (id, 32 bytes). Raises `SettingsError` when there are none.
    """

    keys: tuple[tuple[str, bytes], ...]

    def __post_init__(self) -> None:
        if not self.keys:
            raise SettingsError(
                "encryption keys are not set: give PIPELINE_ENCRYPTION_KEYS or PIPELINE_ENCRYPTION_KEYS_FILE"
            )

    @property
    def key_id(self) -> str:
        """The key that seals."""
        return self.keys[0][0]

    def knows(self, sealed: Sealed) -> bool:
        """Whether the key that sealed it is one of these."""
        return any(name == sealed.key for name, _ in self.keys)

    def seal(self, plain: bytes, *, tenant: str, webhook: str, field: str, version: int) -> Sealed:
        """Close `plain` for this place. `version` counts the sealings of the field, from 1."""
        name, key = self.keys[0]
        nonce = os.urandom(_NONCE)
        box = nonce + AESGCM(key).encrypt(nonce, plain, _place(tenant, webhook, field, version))
        return Sealed(name, version, box)

    def open(self, sealed: Sealed, *, tenant: str, webhook: str, field: str) -> bytes:
        """What was sealed for this place. Raises `Unreadable`, which names the place and the key, never a secret."""
        key = next((key for name, key in self.keys if name == sealed.key), None)
        where = f"{field} of {tenant}/{webhook}".removesuffix("/")
        if key is None:
            raise Unreadable(f"{where} was sealed by key {sealed.key!r}, which is not among the encryption keys")
        nonce, closed = sealed.box[:_NONCE], sealed.box[_NONCE:]
        try:
            return AESGCM(key).decrypt(nonce, closed, _place(tenant, webhook, field, sealed.version))
        except (InvalidTag, ValueError) as error:
            raise Unreadable(
                f"{where} cannot be opened: key {sealed.key!r} is another one, or the record was altered"
            ) from error

    def new_tenant_key(self, tenant: str) -> Sealed:
        """A fresh key of the tenant's own, sealed by the deployment's."""
        return self.seal(os.urandom(KEY_BYTES), tenant=tenant, webhook="", field=DATA_KEY, version=1)

    def tenant_vault(self, tenant: Tenant) -> Vault:
        """The vault of this tenant's webhooks. Raises `Unreadable`.

        The key's id is the beginning of its SHA-256, so that a webhook which an earlier tenant of the same id has left
        behind is known for what it is.
        """
        if tenant.data_key is None:
            raise Unreadable(f"tenant {tenant.id} has no key of its own")
        key = self.open(tenant.data_key, tenant=tenant.id, webhook="", field=DATA_KEY)
        return Vault(((f"t-{hashlib.sha256(key).hexdigest()[:12]}", key),))


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """The secrets of a webhook's authentication: `values` by the scheme's field names.

    `previous` are those that were rotated away and sign along until their time (milliseconds since the epoch), newest
    first.
    """

    values: Mapping[str, str]
    previous: tuple[tuple[str, int], ...] = ()

    def to_json(self) -> bytes:
        """What is sealed."""
        return orjson.dumps({"values": dict(self.values), "previous": self.previous})

    @classmethod
    def of_json(cls, plain: bytes) -> Secrets:
        """What was sealed."""
        held = orjson.loads(plain)
        return cls(held["values"], tuple((secret, until_ms) for secret, until_ms in held["previous"]))

    def at(self, now_ms: int) -> Secrets:
        """Without those whose time is over."""
        return replace(self, previous=tuple(old for old in self.previous if old[1] > now_ms))

    def in_force(self) -> dict[str, str]:
        """As a scheme takes them: with `previous`, separated by blanks, where some still sign along."""
        along = " ".join(secret for secret, _ in self.previous)
        return {**self.values, "previous": along} if along else dict(self.values)


def seal_auth(vault: Vault, tenant: str, webhook: str, secrets: Secrets, version: int) -> Sealed:
    """The box of `Subscription.auth`; `vault` is the tenant's."""
    return vault.seal(secrets.to_json(), tenant=tenant, webhook=webhook, field=AUTH, version=version)


def open_auth(vault: Vault, tenant: str, webhook: str, sealed: Sealed | None) -> Secrets:
    """The secrets of `Subscription.auth`; none where there is no box. Raises `Unreadable`."""
    return (
        Secrets({})
        if sealed is None
        else Secrets.of_json(vault.open(sealed, tenant=tenant, webhook=webhook, field=AUTH))
    )


def seal_headers(vault: Vault, tenant: str, webhook: str, headers: Mapping[str, str], version: int) -> Sealed | None:
    """The box of `Subscription.headers`; None for no headers."""
    if not headers:
        return None
    return vault.seal(orjson.dumps(dict(headers)), tenant=tenant, webhook=webhook, field=HEADERS, version=version)


def open_headers(vault: Vault, tenant: str, webhook: str, sealed: Sealed | None) -> dict[str, str]:
    """The customer's own headers. Raises `Unreadable`."""
    if sealed is None:
        return {}
    held: dict[str, str] = orjson.loads(vault.open(sealed, tenant=tenant, webhook=webhook, field=HEADERS))
    return held


def seal_client_certificate(
    vault: Vault, tenant: str, webhook: str, certificate: ClientCertificate | None, version: int
) -> Sealed | None:
    """The box of `Subscription.client_certificate`; None for none."""
    if certificate is None:
        return None
    plain = orjson.dumps({"certificate": certificate.certificate, "private_key": certificate.private_key})
    return vault.seal(plain, tenant=tenant, webhook=webhook, field=CLIENT_CERTIFICATE, version=version)


def open_client_certificate(vault: Vault, tenant: str, webhook: str, sealed: Sealed | None) -> ClientCertificate | None:
    """The webhook's client certificate, if it has one. Raises `Unreadable`."""
    if sealed is None:
        return None
    held = orjson.loads(vault.open(sealed, tenant=tenant, webhook=webhook, field=CLIENT_CERTIFICATE))
    return ClientCertificate(held["certificate"], held["private_key"])


def _place(tenant: str, webhook: str, field: str, version: int) -> bytes:
    return f"{tenant}|{webhook}|{field}|{version}".encode()
