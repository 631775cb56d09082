"""What opens a door goes to the webhook's own origin and nowhere else, wherever redirects lead."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from pipeline.http.client import DeliveryClient
from tests.http.conftest import MakeClient
from tests.http.endpoints import HEADERS, OK, Answer, Received, answering, post, redirect, tls_for

pytestmark = pytest.mark.egress

DOORS = (("Authorization", "Bearer canary"), ("X-Token", "canary"))


def doors(request: Received) -> list[str | None]:
    """What came of them."""
    return [request.header(name.lower()) for name, _ in DOORS]


def leading(ways: dict[str, str]) -> Answer:
    """Answers that send a path on its way."""

    def answer(request: Received) -> bytes:
        path = request.line.split()[1]
        return redirect(307, ways[path]) if path in ways else OK

    return answer


@pytest.mark.parametrize(
    ("location", "origin"),
    [
        ("http://localhost:{port}/there", "foreign"),
        ("http://127.0.0.1:{port}/there", "own"),
        ("HTTP://127.0.0.1:{port}/there", "own"),
        ("//127.0.0.1:{port}/there", "own"),
        ("/there", "own"),
        ("?there", "own"),
    ],
)
async def test_bearer_and_own_headers_stay_with_their_origin(
    location: str, origin: str, client: DeliveryClient
) -> None:
    """Another name of the very same listener is another origin; another way to write the same is not."""
    ways: dict[str, str] = {}
    async with answering(leading(ways)) as endpoint:
        ways["/hook"] = location.format(port=endpoint.port)
        outcome = await client.send(post(endpoint.url(), max_redirects=5, headers=HEADERS + DOORS))
    assert outcome.status == 200
    assert [doors(request) for request in endpoint.requests] == [
        ["Bearer canary", "canary"],
        ["Bearer canary", "canary"] if origin == "own" else [None, None],
    ]
    assert endpoint.requests[1].header("webhook-signature") == "v1,c2lnbmF0dXJl"


async def test_less_safe_scheme_is_another_origin(
    authority: trustme.CA, ca_file: Path, make_client: MakeClient
) -> None:
    """From https to http at the same host nothing goes along, where the product allows http at all."""
    tls = tls_for(authority, "localhost")
    async with answering() as plain, answering(redirect(307, plain.url(host="localhost")), tls=tls) as safe:
        request = post(safe.url(host="localhost"), max_redirects=5, headers=HEADERS + DOORS)
        outcome = await make_client(ca_file=ca_file).send(request)
    assert outcome.status == 200
    assert doors(plain.requests[0]) == [None, None]


async def test_back_home_they_are_given_again(client: DeliveryClient) -> None:
    """A redirect back to the first origin is asked as that origin always is."""
    here_ways: dict[str, str] = {}
    there_ways: dict[str, str] = {}
    async with (
        answering(leading(here_ways)) as here,
        answering(leading(there_ways)) as there,
    ):
        here_ways["/hook"], there_ways["/back"] = there.url("/back"), here.url("/home")
        outcome = await client.send(post(here.url(), max_redirects=5, headers=HEADERS + DOORS))
    assert outcome.status == 200
    assert [doors(request) for request in here.requests] == [["Bearer canary", "canary"]] * 2
    assert [doors(request) for request in there.requests] == [[None, None]]
