"""Client certificates: who a webhook's requests come from, shown to an endpoint that asks (mutual TLS)."""

from __future__ import annotations

import functools
import ssl
import tempfile
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import certifi

from pipeline.errors import PipelineError
from pipeline.http.authorities import authorities_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline.flow.deliver import ClientCertificate

READY = 1000
"""How many certificates are kept ready, about 13 KiB each."""


class Identities:
    """A TLS context for each client certificate.

    aiohttp's pool tells connections apart by their context, so none is ever shared by two certificates.
    Endpoints are verified as they are without one: by the usual authorities and those in `extra_ca` (PEM), which are
    kept in `data_dir`.
    """

    def __init__(self, data_dir: Path, extra_ca: str | Path = "") -> None:
        self._place = data_dir.absolute() / "authorities"
        self._files = (certifi.where(), extra_ca) if extra_ca else (certifi.where(),)
        self.context = functools.lru_cache(maxsize=READY)(self._context)

    def _context(self, certificate: ClientCertificate) -> ssl.SSLContext:
        context = plain_context()
        context.load_verify_locations(capath=self._authorities)
        load_certificate(context, certificate)
        return context

    @functools.cached_property
    def _authorities(self) -> Path:
        with _files_are_ours():
            return authorities_folder(self._place, self._files)


def plain_context() -> ssl.SSLContext:
    """Verification of endpoints, chain and host name, by authorities that are still to be given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["http/1.1"])
    return context


def load_certificate(context: ssl.SSLContext, certificate: ClientCertificate) -> None:
    """Have `context` present the certificate. Raises `ssl.SSLError` when OpenSSL cannot use it.

    OpenSSL reads files alone: these have no name, so nobody else can open them and a death leaves none behind.
    """
    with _files_are_ours(), ExitStack() as files:
        chain, key = (_written(files, text) for text in (certificate.certificate, certificate.private_key))
        context.load_cert_chain(chain, key, password="")  # or OpenSSL would ask the terminal for one


def _written(files: ExitStack, text: str) -> str:
    file = files.enter_context(tempfile.TemporaryFile(buffering=0))  # noqa: SIM115  # `files` closes it
    file.write(text.encode())
    file.seek(0)
    return f"/dev/fd/{file.fileno()}"


@contextmanager
def _files_are_ours() -> Iterator[None]:
    """A file that cannot be written must not pass for an endpoint's failure."""
    try:
        yield
    except ssl.SSLError:
        raise
    except OSError as error:
        raise PipelineError(f"client certificates need files of ours that cannot be written: {error}") from error
