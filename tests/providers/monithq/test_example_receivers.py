from __future__ import annotations

import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from pipeline.flow.deliver import Delivery, Origin, Outcome, OutgoingRequest, Verdict
from pipeline.flow.subscription import Tenant
from pipeline.profiles import PROFILES, examples
from tests.debian_packages import Missing
from tests.providers.monithq.receivers import RECEIVERS, SECRET, running

pytestmark = pytest.mark.providers
MONITHQ = PROFILES["monithq"]
TENANT = Tenant("acct", "Account", "monithq")


@pytest.fixture(scope="module", params=RECEIVERS)
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    try:
        with running(request.param, tmp_path_factory.mktemp(request.param)) as listening:
            yield listening
    except Missing as missing:
        pytest.skip(f"MonitHQ's {request.param} receiver: {missing}")


def _requests(secret: str) -> list[OutgoingRequest]:
    prepared = MONITHQ.prepare("http://127.0.0.1/webhook", "monithq_hmac", {"secret": secret})
    origin = Origin("events", 0, 0, 0)
    deliveries = [
        Delivery(f"msg_{n}", "acct", "wh_1", "e", one.type, None, 0, _body(n), 1, origin)
        for n, one in enumerate(examples("monithq"))
    ]
    return [prepared.request(delivery, int(time.time())) for delivery in deliveries]


def _body(number: int) -> bytes:
    example = examples("monithq")[number]
    return MONITHQ.body(example.event("acct", "e", 1_762_338_600_999), TENANT, f"msg_{number}")


def _post(port: int, request: OutgoingRequest, body: bytes) -> Outcome:
    connection = HTTPConnection("127.0.0.1", port, timeout=request.deadline_s)
    try:
        connection.request("POST", "/webhook", body, dict(request.headers))
        answer = connection.getresponse()
        return Outcome(None, answer.status, tuple(answer.getheaders()), answer.read(), 0)
    finally:
        connection.close()


def test_it_accepts_every_event_that_we_send(port: int) -> None:
    """Each of the eight events is answered 200, which the product takes for delivered."""
    answers = [_post(port, request, request.body) for request in _requests(SECRET)]
    assert [(answer.status, answer.body.strip()) for answer in answers] == [(200, b"Received")] * 8
    assert {MONITHQ.judge(answer) for answer in answers} == {Verdict.DELIVERED}


def test_it_refuses_what_was_changed_on_the_way(port: int) -> None:
    """A body with one blank more has not the signature that was sent with it."""
    request = _requests(SECRET)[0]
    answer = _post(port, request, request.body[:-1] + b" }")
    assert (answer.status, MONITHQ.judge(answer)) == (401, Verdict.REJECTED)


def test_it_refuses_what_another_secret_signed(port: int) -> None:
    """So that the acceptance above says something."""
    request = _requests("another text of ours")[0]
    assert _post(port, request, request.body).status == 401


def test_the_receivers_are_the_pages_own() -> None:
    """The secret stands where the page has it, in code that starts nothing."""
    pages = sorted((Path(__file__).parent / "pages").iterdir())
    assert len(pages) == len(RECEIVERS)
    assert all(SECRET in page.read_text(encoding="utf-8") for page in pages)
