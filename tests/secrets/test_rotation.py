"""An endpoint's secret is replaced: who holds the old one still verifies for a day, over REST as over the CLI."""

from __future__ import annotations

import base64
import datetime as dt
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook, WebhookVerificationError

from pipeline.flow.deliver import Delivery, Origin
from pipeline.http.rest import Rest
from pipeline.store.targets import ViewTargets
from tests.api.parts import NOW_MS, Parts
from tests.cli.conftest import Command
from tests.prepared import ADMIN_KEY

pytestmark = pytest.mark.secrets

BODY = b'{"test": 2432232314}'
DAY_S = 86_400
URL = "https://example.com/hook"
HMAC, ED25519 = "hmac-sha256", "ed25519"


@dataclass(frozen=True)
class Hook:
    """A webhook over the API's real HTTP; `cli` decides which way it is spoken to."""

    parts: Parts
    rest: Rest
    command: Command
    tenant: str
    webhook: str
    cli: bool

    def rotate(self, algorithm: str | None, secret: str | None) -> Any:
        """The answer to rotate-secret."""
        if self.cli:
            given = (("--algorithm", algorithm), ("--secret", secret))
            options = [word for option, value in given if value for word in (option, value)]
            return self.command("webhooks", "rotate-secret", self.tenant, self.webhook, *options, "-o", "json").json
        body = {name: value for name, value in (("algorithm", algorithm), ("secret", secret)) if value}
        return self.rest.post(f"/v1/tenants/{self.tenant}/webhooks/{self.webhook}/rotate-secret", body)

    def headers(self, later_s: float) -> dict[str, str]:
        """Of a request by a sender whose clock is so much later than the rotation; stamped with the present."""
        now_s = self.parts.deps.clock() / 1000 + later_s
        target = ViewTargets(self.parts.view, self.parts.codec, self.parts.vault, lambda: now_s).find(
            self.tenant, self.webhook
        )
        assert target is not None
        delivery = Delivery("msg_1", self.tenant, self.webhook, "e", "t", None, 0, BODY, 1, Origin("events", 0, 0, 0))
        stamp = int(dt.datetime.now(dt.UTC).timestamp())
        return {name.lower(): value for name, value in target.prepared.request(delivery, stamp).headers}


@pytest.fixture(params=["rest", "cli"])
def made(request: pytest.FixtureRequest, served: tuple[str, Parts], api: Command) -> Callable[..., tuple[Hook, Any]]:
    """Makes a webhook with this `auth`; also its answer."""
    url, parts = served

    def make(profile: str = "standard", **auth: str) -> tuple[Hook, Any]:
        rest, tenant = Rest(url, ADMIN_KEY), f"t-{secrets.token_hex(4)}"
        request.addfinalizer(lambda: rest.__exit__(None, None, None))
        rest.post("/v1/tenants", {"id": tenant, "name": "T", "profile": profile, "programs": 1})
        answer = rest.post(f"/v1/tenants/{tenant}/webhooks", {"url": URL, "events": ["*"], "auth": auth})
        return Hook(parts, rest, api, tenant, answer["id"], request.param == "cli"), answer

    return make


def own(algorithm: str) -> str:
    """A secret as a customer would bring it."""
    prefix = "whsec_" if algorithm == HMAC else "whsk_"
    return prefix + base64.b64encode(secrets.token_bytes(32)).decode()


def believes(auth: dict[str, str], headers: dict[str, str]) -> bool:
    """Whether the receiver does: the official library for a shared secret, the specification's v1a by hand."""
    if "public_key" not in auth:
        try:
            return bool(Webhook(auth["secret"]).verify(BODY, headers) == json.loads(BODY))
        except WebhookVerificationError:
            return False
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(auth["public_key"].removeprefix("whpk_")))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + BODY
    return any(_fits(key, one, signed) for one in headers["webhook-signature"].split())


def _fits(key: Ed25519PublicKey, signature: str, signed: bytes) -> bool:
    version, _, text = signature.partition(",")
    try:
        key.verify(base64.b64decode(text), signed)
    except InvalidSignature:
        return False
    return version == "v1a"


def held(answer: Any, given: str | None) -> dict[str, str]:
    """What the receiver has: the secret that was given or shown; of an ed25519 key the public half alone."""
    auth = answer["auth"]
    return {"secret": given or auth["secret"], **({"public_key": auth["public_key"]} if "public_key" in auth else {})}


@pytest.mark.parametrize("ours", [True, False], ids=["generated", "given"])
@pytest.mark.parametrize("after", [HMAC, ED25519])
@pytest.mark.parametrize("before", [HMAC, ED25519])
def test_both_secrets_are_good_for_a_day(
    made: Callable[..., tuple[Hook, Any]],
    before: str,
    after: str,
    ours: bool,  # noqa: FBT001 - a parameter
) -> None:
    """Old and new receivers believe a request until 24 hours after the rotation; from then on the new one alone."""
    first = None if ours else own(before)
    hook, answer = made(**({"secret": first} if first else {"algorithm": before}))
    old = held(answer, first)
    second = None if ours else own(after)
    rotated = hook.rotate(after if ours else None, second)
    new = held(rotated, second)
    assert old["secret"] != new["secret"]
    until = dt.datetime.fromisoformat(rotated["rotation"]["previous_until"]).timestamp()
    assert abs(until - (NOW_MS / 1000 + DAY_S)) < 60
    during, later = hook.headers(DAY_S - 60), hook.headers(DAY_S + 60)
    assert (believes(old, during), believes(new, during)) == (True, True)
    assert (believes(old, later), believes(new, later)) == (False, True)


def test_a_second_rotation_leaves_both_old_ones_their_day(made: Callable[..., tuple[Hook, Any]]) -> None:
    """Three secrets sign along at a time, each for its own day."""
    hook, answer = made("bugbounty")
    known = [held(answer, None), *(held(hook.rotate(None, None), None) for _ in range(2))]
    assert [believes(one, hook.headers(0)) for one in known] == [True, True, True]
    assert [believes(one, hook.headers(DAY_S + 60)) for one in known] == [False, False, True]


def test_a_secret_is_shown_once(made: Callable[..., tuple[Hook, Any]]) -> None:
    """The answer to the rotation has what was generated; a given one, and every later answer, is masked."""
    hook, _ = made()
    generated = hook.rotate(ED25519, None)["auth"]["secret"]
    place = f"/v1/tenants/{hook.tenant}/webhooks"
    shown = [hook.rest.get(place), hook.rest.get(f"{place}/{hook.webhook}"), hook.rotate(None, own(HMAC))]
    assert generated.startswith("whsk_")
    assert generated not in json.dumps(shown)
    assert shown[2]["auth"]["secret"].startswith("whsec_…")


@pytest.mark.parametrize(
    ("algorithm", "secret", "said"),
    [
        ("rsa", None, "algorithm: The algorithm must be one of: hmac-sha256, ed25519"),
        (ED25519, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "algorithm: A secret of this algorithm begins with whsk_"),
        (None, "whsec_short", "secret: "),
        (None, "canary-not-a-key", "secret: "),
    ],
)
def test_what_is_no_secret_is_refused_by_its_own_name(
    api: Command, algorithm: str | None, secret: str | None, said: str
) -> None:
    """The refusal names the field of this form, and repeats nothing of the secret."""
    tenant = f"t-{secrets.token_hex(4)}"
    api("tenants", "create", tenant, "--profile", "standard")
    webhook = api("webhooks", "create", tenant, "--url", URL, "--event", "*", "-o", "json").json["id"]
    given = (("--algorithm", algorithm), ("--secret", secret))
    options = [word for option, value in given if value for word in (option, value)]
    refused = api.refused("webhooks", "rotate-secret", tenant, webhook, *options)
    assert refused.startswith(said)
    assert "canary" not in refused
