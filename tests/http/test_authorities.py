"""The folder of authorities."""

from __future__ import annotations

import ssl
from pathlib import Path

import certifi
import pytest

from pipeline.http.authorities import authorities_folder, subject_hash

KNOWN = {
    "ISRG Root X1": "4042bcee",
    "DigiCert Global Root G2": "607986c7",
    "Certum Trusted Network CA": "48bec511",
    "NetLock Arany": "988a38cb",  # letters beyond ASCII
}
"""Names of files in `/etc/ssl/certs` of systems whose OpenSSL made them."""


@pytest.mark.parametrize("name", KNOWN)
def test_names_are_those_that_openssl_looks_for(name: str) -> None:
    """A subject's hash is OpenSSL's own."""
    text = Path(certifi.where()).read_text(encoding="utf-8")
    part = next(part for part in text.split("# Issuer: ") if f"CN={name}" in part.split("\n")[0])
    pem = part[part.index("-----BEGIN") : part.index("-----END")] + ssl.PEM_FOOTER
    assert subject_hash(ssl.PEM_cert_to_DER_cert(pem)) == KNOWN[name]


def test_every_authority_is_in_the_folder(tmp_path: Path) -> None:
    """Each certificate of each file has a file of its own, also where two have the same name."""
    pem = Path(certifi.where()).read_text(encoding="utf-8")
    twice = tmp_path / "twice.pem"
    twice.write_text(pem + pem, encoding="utf-8")
    folder = authorities_folder(tmp_path / "made", [certifi.where(), twice])
    count = pem.count("-----BEGIN CERTIFICATE-----")
    assert len(list(folder.iterdir())) == 3 * count
    assert sum(1 for file in folder.iterdir() if file.suffix == ".0") <= count


def test_the_folder_is_made_once(tmp_path: Path) -> None:
    """Processes with the same authorities share a folder; others have their own; nothing unfinished is left."""
    first = authorities_folder(tmp_path, [certifi.where()])
    made = first.stat().st_ctime_ns
    other = tmp_path.parent / f"{tmp_path.name}.pem"
    other.write_text("", encoding="utf-8")
    assert authorities_folder(tmp_path, [certifi.where(), other]) == first
    assert first.stat().st_ctime_ns == made
    other.write_text(Path(certifi.where()).read_text(encoding="utf-8"), encoding="utf-8")
    assert authorities_folder(tmp_path, [certifi.where(), other]) != first
    assert {file.name[0] == "." for file in tmp_path.iterdir()} == {False}


def test_a_quicker_process_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that make the folder at the same moment end up with one, whole."""
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        authorities_folder(tmp_path, [certifi.where()])
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    folder = authorities_folder(tmp_path, [certifi.where()])
    assert [file.name for file in tmp_path.iterdir()] == [folder.name]
