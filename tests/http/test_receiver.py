from __future__ import annotations

import asyncio
import ssl
import time

import aiohttp
import pytest
from aiohttp.test_utils import unused_port

from pipeline.errors import UsageError
from pipeline.flow.deliver import Delivery, Origin
from pipeline.flow.subscription import Tenant
from pipeline.http.receiver import Expectation, Receiver, Script
from pipeline.profiles import PROFILES, examples

SECRETS: dict[str, dict[str, str]] = {
    "standard_webhooks": {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
    "monithq_hmac": {"secret": "a text of their own"},
    "qase_secret": {"secret": "a text of their own"},
    "basic": {"username": "qrm", "password": "pässword"},
    "none": {},
}
EVERY = [(name, scheme.name) for name, profile in PROFILES.items() for scheme in profile.schemes]
BODY = b'{"a":1}'


def _expectation(name: str = "standard", auth_type: str = "standard_webhooks", **script: int) -> Expectation:
    return Expectation(PROFILES[name], auth_type, SECRETS[auth_type], Script(**script))


def _headers(name: str, auth_type: str, webhook_id: str = "msg_1", body: bytes = BODY) -> dict[str, str]:
    delivery = Delivery(webhook_id, "t", "w", "e", "x", None, 0, body, 1, Origin("events", 0, 0, 0))
    prepared = PROFILES[name].prepare("http://x/", auth_type, SECRETS[auth_type])
    return dict(prepared.request(delivery, int(time.time())).headers)


async def _post(
    receiver: Receiver,
    headers: dict[str, str],
    body: bytes = BODY,
    path: str = "/in",
    trusted: ssl.SSLContext | None = None,
) -> int:
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted or True))
    async with session, session.post(receiver.url(path), data=body, headers=headers) as got:
        return got.status


@pytest.mark.parametrize(("name", "auth_type"), EVERY)
async def test_each_products_own_rule_is_checked(name: str, auth_type: str) -> None:
    """What we send is accepted; for every product that authenticates, the same without it is refused and counted so."""
    async with Receiver({"/in": _expectation(name, auth_type)}) as receiver:
        good = _headers(name, auth_type)
        bad = {
            header: value for header, value in good.items() if header.lower() in {"content-type", "webhook-timestamp"}
        }
        assert await _post(receiver, good) == 200
        refused = await _post(receiver, {**bad, "webhook-id": "msg_2"})
    assert refused == (200 if auth_type == "none" else 401)
    assert ("msg_2" in receiver.refused("/in")) is (auth_type != "none")
    assert receiver.accepted("/in") == (("msg_1", "msg_2") if auth_type == "none" else ("msg_1",))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Content-Type": "text/plain"}, "Content-Type"),
        ({"webhook-id": ""}, "missing"),
        ({"webhook-timestamp": ""}, "missing"),
    ],
)
async def test_what_every_product_sends_is_checked(change: dict[str, str], words: str) -> None:
    """JSON, an id and a timestamp belong to every request, also where nothing is signed."""
    async with Receiver({"/in": _expectation("monitorqa", "none")}) as receiver:
        assert await _post(receiver, {**_headers("monitorqa", "none"), **change}) == 401
    assert words in next(iter(receiver.refused("/in").values()))
    assert receiver.accepted("/in") == ()


async def test_a_body_that_is_not_json_is_refused() -> None:
    """A body cut on its way is refused even where nothing is signed."""
    async with Receiver({"/in": _expectation("monitorqa", "none")}) as receiver:
        assert await _post(receiver, _headers("monitorqa", "none"), b'{"a":') == 401
    assert "not JSON" in receiver.refused("/in")["msg_1"]


async def test_ids_are_counted_once_in_the_order_of_their_acceptance() -> None:
    """A repeat counts as tried, not as accepted again; requests are kept whole."""
    async with Receiver({"/in": _expectation()}) as receiver:
        for webhook_id in ("msg_b", "msg_a", "msg_b"):
            await _post(receiver, _headers("standard", "standard_webhooks", webhook_id))
    assert receiver.accepted("/in") == ("msg_b", "msg_a")
    assert receiver.tried("/in") == {"msg_b": 2, "msg_a": 1}
    assert [(got.webhook_id, got.body) for got in receiver.requests("/in")][1] == ("msg_a", BODY)


async def test_a_script_fails_the_first_requests_of_chosen_ids() -> None:
    """Of the first two ids that come the first request is answered 503, all else 200."""
    async with Receiver({"/in": _expectation(times=1, chosen=2)}) as receiver:
        ids = ["msg_1", "msg_2", "msg_3", "msg_1", "msg_2", "msg_1"]
        statuses = [await _post(receiver, _headers("standard", "standard_webhooks", one)) for one in ids]
    assert statuses == [503, 503, 200, 200, 200, 200]
    assert receiver.accepted("/in") == ("msg_3", "msg_1", "msg_2")


async def test_it_can_be_broken_and_repaired() -> None:
    """While somebody says so verified requests get another status and do not count as accepted."""
    told: dict[str, int] = {"/in": 500}
    async with Receiver({"/in": _expectation()}, instead=told.get) as receiver:
        headers = _headers("standard", "standard_webhooks")
        assert await _post(receiver, headers) == 500
        assert await _post(receiver, {**headers, "webhook-signature": "v1,AAAA"}) == 401
        assert receiver.accepted("/in") == ()
        told.clear()
        assert await _post(receiver, headers) == 200
        assert receiver.accepted("/in") == ("msg_1",)


async def test_a_script_may_fail_every_id_more_than_once() -> None:
    """Without a choice each id fails so many times with the status that the script names."""
    async with Receiver({"/in": _expectation(times=2, before=500)}) as receiver:
        ids = ["msg_1", "msg_2", "msg_1", "msg_1"]
        statuses = [await _post(receiver, _headers("standard", "standard_webhooks", one)) for one in ids]
    assert statuses == [500, 500, 500, 200]


async def test_what_is_gone_or_not_acknowledged_is_not_accepted() -> None:
    """A verified request answered 410, or 204 where the product wants exactly 200, does not count as accepted."""
    expected = {"/gone": _expectation(status=410), "/empty": _expectation("monithq", "monithq_hmac", status=204)}
    async with Receiver(expected) as receiver:
        assert await _post(receiver, _headers("standard", "standard_webhooks"), path="/gone") == 410
        assert await _post(receiver, _headers("monithq", "monithq_hmac"), path="/empty") == 204
    assert [receiver.accepted(path) for path in expected] == [(), ()]
    assert [receiver.refused(path) for path in expected] == [{}, {}]


async def test_https_with_a_certificate_of_its_own() -> None:
    """Its authority's file is enough to trust it by address and by name; without the file it is not trusted."""
    async with Receiver({"/in": _expectation("bugbounty")}, tls=True) as receiver:
        assert receiver.ca_file is not None
        trusting = ssl.create_default_context(cafile=str(receiver.ca_file))
        assert await _post(receiver, _headers("bugbounty", "standard_webhooks"), trusted=trusting) == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await _post(receiver, _headers("bugbounty", "standard_webhooks"))
        by_name = receiver.url("/in").replace("127.0.0.1", "localhost")
        async with aiohttp.ClientSession() as session, session.get(by_name, ssl=trusting) as got:
            assert got.status == 405
    assert not receiver.ca_file.exists()


async def test_what_comes_is_told_and_can_be_waited_for() -> None:
    """The callback hears path, reason, id and body of each request, and `until` returns when enough have come."""
    heard: list[tuple[str, str | None, str, bytes]] = []
    expected = {"/in": _expectation()}
    async with Receiver(expected, on_request=lambda *told: heard.append(told)) as receiver, asyncio.timeout(10):
        waiting = asyncio.create_task(receiver.until(lambda: len(receiver.accepted("/in")) == 2))
        for webhook_id in ("msg_1", "msg_2"):
            assert not waiting.done()
            await _post(receiver, _headers("standard", "standard_webhooks", webhook_id))
        await waiting
    assert heard == [("/in", None, "msg_1", BODY), ("/in", None, "msg_2", BODY)]


async def test_an_expectation_can_come_later() -> None:
    """A path that was unknown answers 404 until something is expected there."""
    async with Receiver({}) as receiver:
        assert await _post(receiver, _headers("standard", "standard_webhooks")) == 404
        receiver.expect("/in", _expectation())
        assert await _post(receiver, _headers("standard", "standard_webhooks")) == 200
    assert receiver.accepted("/in") == ("msg_1",)


async def test_a_taken_port_is_said_plainly() -> None:
    """The message names the port."""
    port = unused_port()
    async with Receiver({}, port=port) as receiver:
        assert receiver.port == port
        with pytest.raises(UsageError, match=f"port {port} cannot be listened on"):
            await Receiver({}, port=port).__aenter__()


async def test_every_example_is_accepted_by_its_products_receiver() -> None:
    """Rendered, signed, sent over a socket and verified: each example of each product."""
    expected = {f"/{name}": _expectation(name, PROFILES[name].schemes[0].name) for name in PROFILES}
    from_us = await _send_all(expected)
    assert from_us == {f"/{name}": len(examples(name)) for name in PROFILES}


async def _send_all(expected: dict[str, Expectation]) -> dict[str, int]:
    async with Receiver(expected) as receiver:
        for path, expectation in expected.items():
            for number, example in enumerate(examples(path[1:])):
                body = expectation.profile.body(example.event("t", "e", 0), Tenant("t", "T", path[1:]), f"msg_{number}")
                await _post(receiver, _headers(path[1:], expectation.auth_type, f"msg_{number}", body), body, path)
        return {path: len(receiver.accepted(path)) for path in expected}
