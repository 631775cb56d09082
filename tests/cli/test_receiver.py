"""`pipeline receiver`: a real process that checks a product's rule."""

from __future__ import annotations

import re
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from pipeline.profiles import PROFILES
from pipeline.profiles._signing import public_key
from tests.cli.conftest import Command
from tests.cli.started import Started, started

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"type":  "invoice.paid"}'


def url_of(running: Started) -> str:
    return running.until("err", lambda line: line.startswith("listening on ")).split()[2]


def post(url: str, secret: str, body: bytes = BODY) -> int:
    stamp = str(int(time.time()))
    scheme = PROFILES["standard"].schemes[0]
    signed = scheme.signer({"secret": secret})("msg_1", stamp, body)
    headers = {"Content-Type": "application/json", "webhook-id": "msg_1", "webhook-timestamp": stamp, **dict(signed)}
    request = urllib.request.Request(url, body, headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own receiver
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_it_verifies_and_prints() -> None:
    """A signed request is printed as verified and answered as told; a forged one with the reason, and answered 401."""
    with started(
        "receiver", "--profile", "standard", "--status", "202", "--path", "hook", "--secret", SECRET
    ) as running:
        url = url_of(running)
        assert url.endswith("/hook")
        assert post(url, SECRET) == 202
        line = running.until("out", bool)
        assert re.fullmatch(r'\d\d:\d\d:\d\d\.\d{3} msg_1 verified \{"type": "invoice.paid"\}', line)
        assert post(url, "whsec_" + "A" * 32) == 401
        assert "msg_1 REFUSED: no webhook-signature fits the secret" in running.until("out", bool)
        assert running.stop(signal.SIGINT) == 130


def test_a_public_key_is_enough() -> None:
    """An ed25519 signature is checked with the public key alone; SIGTERM ends it with exit code 0."""
    (secret,) = PROFILES["standard"].schemes[0].generate(bytes(range(32)), "ed25519").values()
    with started("receiver", "--profile", "standard", PIPELINE_RECEIVER_SECRET=public_key(secret)) as running:
        assert post(url_of(running), secret) == 200
        assert " verified " in running.until("out", bool)
        assert running.stop() == 0


def test_tls_names_its_authority() -> None:
    """With --tls it listens on HTTPS and says which authority its certificate is of."""
    with started("receiver", "--profile", "qase", "--tls") as running:
        assert url_of(running).startswith("https://127.0.0.1:")
        line = running.until("err", bool)
        assert Path(line.rpartition(" ")[2]).read_text().startswith("-----BEGIN CERTIFICATE-----")


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (["--profile", "nobody"], "there is no profile 'nobody': standard, "),
        (["--profile", "standard"], "Standard Webhooks is checked with --secret"),
        (["--profile", "standard", "--secret", "hunter2"], "--secret: must begin with whsec_"),
        (["--profile", "monithq", "--secret", "s", "--username", "u"], "MonitHQ is checked with --secret"),
        (["--profile", "inspectorio", "--username", "u"], "is checked with no secret or --username and --password"),
    ],
)
def test_what_does_not_fit_is_refused(command: Command, arguments: list[str], refusal: str) -> None:
    """A product that does not exist, or secrets that its rule cannot use, are refused in one line."""
    said = command.refused("receiver", *arguments)
    assert refusal in said
    assert "hunter2" not in said
