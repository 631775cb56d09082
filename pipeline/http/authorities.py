"""Certificate authorities as a folder from which OpenSSL takes one at a time, when a chain leads to it.

To read them all costs a context 20 ms and 670 KiB: too much where every client certificate has a context of its own.
A file in the folder is named by its subject's hash, `<hash>.<number>` (OpenSSL's `X509_NAME_hash_ex` and
`X509_LOOKUP_hash_dir(3)`), which nothing that we use can tell.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import ssl
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _SET, _UTF8, _VERSION = 0x30, 0x31, 0x0C, 0xA0
_LONG, _COUNT = 0x80, 0x7F
_ASCII = {0x13: "ascii", 0x16: "ascii", 0x1A: "ascii"}
_TEXTS = {**_ASCII, _UTF8: "utf-8", 0x14: "latin-1", 0x1C: "utf-32-be", 0x1E: "utf-16-be"}
"""The kinds of text in a name, and how each is written."""

Value = tuple[int, bytes]
"""Tag and content of a DER value (X.690, section 8.1)."""


def authorities_folder(place: Path, files: Iterable[str | Path]) -> Path:
    """The folder in `place` of all certificates in these files (PEM): made once, and whole at any moment.

    Its name is their digest, so processes with the same authorities share it. Raises `OSError`.
    """
    certificates = [pem for file in files for pem in _CERTIFICATE.findall(Path(file).read_text("latin-1"))]
    folder = place / hashlib.sha256("\n".join(certificates).encode()).hexdigest()[:16]
    if folder.exists():
        return folder
    place.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=place))
    _write(scratch, certificates)
    try:
        scratch.rename(folder)
    except OSError:
        shutil.rmtree(scratch)
        if not folder.exists():  # else another process was quicker
            raise
    return folder


def _write(folder: Path, certificates: Iterable[str]) -> None:
    same: Counter[str] = Counter()
    for pem in certificates:
        name = subject_hash(ssl.PEM_cert_to_DER_cert(pem))
        (folder / f"{name}.{same[name]}").write_text(pem + "\n")
        same[name] += 1


def subject_hash(der: bytes) -> str:
    """What OpenSSL looks a certificate up by: a hash of its subject, in which case and blanks count for nothing."""
    (certificate,) = _values(der)
    fields = _values(_values(certificate[1])[0][1])  # RFC 5280, section 4.1
    subject = fields[5 if fields[0][0] == _VERSION else 4]
    canonical = b"".join(_canonical_set(entries) for _, entries in _values(subject[1]))
    return hashlib.sha1(canonical, usedforsecurity=False).digest()[3::-1].hex()


def _canonical_set(entries: bytes) -> bytes:
    return _written(_SET, b"".join(sorted(_canonical(*_values(entry)) for _, entry in _values(entries))))


def _canonical(kind: Value, value: Value) -> bytes:
    tag, content = value
    if tag in _TEXTS:
        text = content.decode(_TEXTS[tag], "replace").encode()
        tag, content = _UTF8, b" ".join(text.split()).lower()  # bytes: nothing but ASCII is folded
    return _written(_SEQUENCE, _written(*kind) + _written(tag, content))


def _values(der: bytes) -> list[Value]:
    """The values that stand one after the other."""
    found = []
    while der:
        length, start = der[1], 2
        if length & _LONG:
            start += length & _COUNT
            length = int.from_bytes(der[2:start], "big")
        found.append((der[0], der[start : start + length]))
        der = der[start + length :]
    return found


def _written(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < _LONG:
        return bytes((tag, length)) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, _LONG | len(size))) + size + content
