"""Endpoints that ask who sends, and certificates to answer them with."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import trustme
from cryptography import x509

from pipeline.flow.deliver import ClientCertificate
from tests.http.endpoints import OK, Answer, Endpoint, listening, read_request, tls_for


@dataclass
class Asking:
    """An endpoint, and whose certificate came with each request; None where none was shown."""

    endpoint: Endpoint
    shown: list[str | None] = field(default_factory=list)


def client_certificate(clients: trustme.CA, name: str, **more: Any) -> ClientCertificate:
    """One of `name`, with its key."""
    leaf = clients.issue_cert(common_name=name, **more)
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    return ClientCertificate(chain.decode(), leaf.private_key_pem.bytes().decode())


def asking_tls(
    authority: trustme.CA, clients: trustme.CA, mode: ssl.VerifyMode = ssl.CERT_OPTIONAL, name: str = "localhost"
) -> ssl.SSLContext:
    """A server's context that asks for a certificate of one of `clients`."""
    context = tls_for(authority, name)
    clients.configure_trust(context)
    context.verify_mode = mode
    return context


@contextlib.asynccontextmanager
async def asking(tls: ssl.SSLContext, answer: Answer | bytes = OK) -> AsyncIterator[Asking]:
    """Answers every request, and notes whose it was."""
    shown: list[str | None] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = _name(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        while True:
            request = await read_request(reader)
            shown.append(name)
            writer.write(answer if isinstance(answer, bytes) else answer(request))

    async with listening(script, tls=tls) as endpoint:
        yield Asking(endpoint, shown)


@contextlib.contextmanager
def refusing(tls: ssl.SSLContext) -> Iterator[int]:
    """A server that says why it ends a handshake, as those in use do (asyncio's just hangs up). Gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_refuse, args=(listener, tls))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _refuse(listener: socket.socket, tls: ssl.SSLContext) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # the end
            return
        with connection, contextlib.suppress(OSError):
            try:
                tls.wrap_socket(connection.dup(), server_side=True).close()
            except ssl.SSLError:  # OpenSSL has told the client why
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65_536):
                    pass


def _name(certificate: bytes | None) -> str | None:
    if certificate is None:
        return None
    subject = x509.load_der_x509_certificate(certificate).subject
    return str(subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)
