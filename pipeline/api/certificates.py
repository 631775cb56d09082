"""A webhook's client certificate: what a client may write, what is wrong with it, and what is shown of it. Pure."""

from __future__ import annotations

import ssl
from dataclasses import replace
from typing import Annotated

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import BaseModel, Field, StringConstraints

from pipeline.api.lists import Strict, written_time
from pipeline.api.problems import FieldError
from pipeline.flow.deliver import ClientCertificate
from pipeline.http.identity import load_certificate, plain_context

MAX_PEM = 16 * 1024
MAX_RSA_BITS = 4096
"""To sign with a longer key takes so long that a sender's other requests would wait for each handshake."""

Pem = Annotated[str, StringConstraints(max_length=MAX_PEM)]
_CERTIFICATE, _KEY = "/client_certificate/certificate", "/client_certificate/private_key"
_UNREADABLE_KEY = FieldError(_KEY, "pem", "This must be a private key in PEM")
_ENCRYPTED = FieldError(_KEY, "encrypted", "The private key must not be encrypted: we could not use it")


class CertificateForm(Strict):
    """For mutual TLS: shown to the endpoint when it asks for one. What is not given stays."""

    certificate: Pem | None = Field(default=None, description="PEM: the certificate, then those that lead to its root.")
    private_key: Pem | None = Field(
        default=None, description="PEM, not encrypted. It is never shown.", json_schema_extra={"writeOnly": True}
    )


class CertificateOut(BaseModel):
    """What is shown of a client certificate."""

    subject: str = Field(examples=["CN=hooks.example.com,O=Example"])
    not_after: str
    fingerprint_sha256: str


def merged(held: ClientCertificate | None, form: CertificateForm | None) -> ClientCertificate | None:
    """The form laid over what is there (RFC 7396); empty texts where something is still missing."""
    if form is None:
        return None
    given = {name: getattr(form, name) or "" for name in form.model_fields_set}
    return replace(held or ClientCertificate("", ""), **given)


def refusals(certificate: ClientCertificate | None, now_ms: int) -> list[FieldError]:
    """What keeps a certificate from being used from now on. No message repeats anything of it."""
    if certificate is None:
        return []
    parts = ((_CERTIFICATE, certificate.certificate), (_KEY, certificate.private_key))
    if missing := [FieldError(field, "required", "This field is required") for field, pem in parts if not pem]:
        return missing
    leaf, key = _leaf(certificate.certificate), _key(certificate.private_key)
    if isinstance(leaf, FieldError) or isinstance(key, FieldError):
        return [one for one in (leaf, key) if isinstance(one, FieldError)]
    return _expiry(leaf, now_ms) + (_match(leaf, key) or _use(certificate))


def shown(certificate: ClientCertificate | None) -> CertificateOut | None:
    """What is shown of it."""
    if certificate is None:
        return None
    leaf = x509.load_pem_x509_certificates(certificate.certificate.encode())[0]
    return CertificateOut(
        subject=leaf.subject.rfc4514_string(),
        not_after=written_time(_ends_ms(leaf)),
        fingerprint_sha256=leaf.fingerprint(SHA256()).hex(),
    )


def _leaf(pem: str) -> x509.Certificate | FieldError:
    try:
        leaf = x509.load_pem_x509_certificates(pem.encode())[0]
        public = leaf.public_key()
    except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm):
        return FieldError(_CERTIFICATE, "pem", "This must be a certificate in PEM, or a chain of them, its own first")
    if isinstance(public, RSAPublicKey) and public.key_size > MAX_RSA_BITS:
        return FieldError(_CERTIFICATE, "key_size", f"An RSA key must have at most {MAX_RSA_BITS} bits")
    return leaf


def _key(pem: str) -> PrivateKeyTypes | FieldError:
    """Without the search for flaws in an RSA key, which can take seconds: it would only be the customer's own harm."""
    try:
        return load_pem_private_key(pem.encode(), None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        return _ENCRYPTED
    except (ValueError, UnsupportedAlgorithm):
        return _UNREADABLE_KEY


def _expiry(leaf: x509.Certificate, now_ms: int) -> list[FieldError]:
    ended = _ends_ms(leaf) < now_ms
    return [FieldError(_CERTIFICATE, "expired", "The certificate has expired")] if ended else []


def _match(leaf: x509.Certificate, key: PrivateKeyTypes) -> list[FieldError]:
    if key.public_key() == leaf.public_key():
        return []
    return [FieldError(_KEY, "mismatch", "The private key is not that of the first certificate")]


def _use(certificate: ClientCertificate) -> list[FieldError]:
    """The sender's own TLS has the last word: it takes no short keys, for one."""
    try:
        load_certificate(plain_context(), certificate)
    except ssl.SSLError:
        return [FieldError(_CERTIFICATE, "unusable", "TLS cannot use this: its key is too short, or not for signing")]
    return []


def _ends_ms(leaf: x509.Certificate) -> int:
    return int(leaf.not_valid_after_utc.timestamp() * 1000)
