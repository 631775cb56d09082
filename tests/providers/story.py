"""What the stories have in common: a customer of a product, its receiver, and the steps that every page has."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from pipeline.http.receiver import Expectation, Received, Receiver, Script
from pipeline.profiles import PROFILES, Profile, examples
from tests.providers.system import System, eventually
from tests.providers.ways import Json, Refused, Way

TIME = "2025-11-05T10:30:00Z"
TIME_S = 1_762_338_600


@dataclass
class Story:
    """A customer of one product, served in one way. `admin` is the platform's; `tenant` the customer."""

    system: System
    admin: Way
    profile: Profile
    tenant: str
    path: str = ""
    expected: Expectation | None = None
    last: str = ""
    _ids: Iterator[int] = field(default_factory=itertools.count)

    @classmethod
    def begin(cls, system: System, way: Way, product: str, **own: Any) -> Story:
        """A new customer, and where its endpoint is."""
        tenant = f"{product}-{type(way).__name__.lower()}"
        made = way.make_tenant(tenant, product, **own)
        assert (made["id"], made["profile"]) == (tenant, product)
        story = cls(system, way, PROFILES[product], tenant)
        story.move("first")
        return story

    @property
    def receiver(self) -> Receiver:
        """Where the product's webhooks may lead to."""
        return self.system.tls if self.profile.https_only else self.system.plain

    @property
    def url(self) -> str:
        """The endpoint's URL."""
        return self.receiver.url(self.path)

    @property
    def requests(self) -> tuple[Received, ...]:
        """What has come to the endpoint since something was expected there."""
        return self.receiver.requests(self.path)

    def role(self, role: str) -> Way:
        """Somebody of the customer's, who has this role."""
        return self.admin.with_key(self.admin.make_key(self.tenant, role))

    def move(self, place: str) -> str:
        """The endpoint is somewhere else from now on; its URL."""
        self.path = f"/{self.tenant}/{place}"
        return self.url

    def expect(self, auth: str, secrets: Mapping[str, str] | None = None, answers: Script | None = None) -> None:
        """What the endpoint checks and answers from now on; its counts begin anew."""
        self.expected = Expectation(self.profile, auth, secrets or {}, answers or Script())
        self.receiver.expect(self.path, self.expected)

    def answers(self, script: Script | None = None) -> None:
        """It answers this from now on, and checks what it did; its counts begin anew."""
        assert self.expected is not None
        self.expect(self.expected.auth_type, self.expected.secrets, script)

    @contextmanager
    def refused(self, words: str) -> Iterator[None]:
        """What is done in the block is refused in these words."""
        with pytest.raises(Refused, match=re.escape(words)):
            yield

    def send(self, kind: str) -> str:
        """An event of the customer's, the product's example of this type; its id."""
        example = next(one for one in examples(self.profile.name) if one.type == kind)
        self.last = f"e-{next(self._ids)}"
        event = {"id": self.last, "type": kind, "time": TIME, "data": json.loads(example.data)}
        self.admin.send(self.tenant, event | ({"actor": example.actor} if example.actor else {}))
        return self.last

    def delivered(self, kind: str) -> tuple[Received, Json]:
        """Send an event of this type; the request that was accepted, and its body."""
        before = len(self.receiver.accepted(self.path))
        self.send(kind)
        return self.accepted(before + 1)

    def accepted(self, count: int = 1) -> tuple[Received, Json]:
        """The latest request that was accepted, once there are so many deliveries; all must have been believed."""
        receiver, path = self.receiver, self.path
        self.system.until(receiver, lambda: len(receiver.accepted(path)) >= count or bool(receiver.refused(path)))
        assert receiver.refused(path) == {}
        got = [one for one in self.requests if one.status in self.profile.acknowledged][-1]
        assert "webhook-test" not in got.headers
        return got, json.loads(got.body)

    def unheard(self, kind: str) -> None:
        """Send an event that nobody gets: the router has passed it, and nothing has come, nor does the log know."""
        before = self.requests
        event = self.send(kind)
        self.system.routed()
        assert self.requests == before
        assert event not in {one["event"] for one in self.deliveries()}

    def data(self, kind: str) -> Any:
        """What the example of this type tells."""
        return next(json.loads(one.data) for one in examples(self.profile.name) if one.type == kind)

    def deliveries(self, webhook: str | None = None) -> list[Json]:
        """What the log has of the customer's deliveries, newest first."""
        return self.admin.deliveries(self.tenant, webhook)

    def logged(self, event: str, status: str) -> Json:
        """The delivery of an event in the log, once it is in this state there; with its attempts."""
        found: list[Json] = []

        def there() -> bool:
            found[:] = [one for one in self.deliveries() if (one["event"], one["status"]) == (event, status)]
            return bool(found)

        eventually(there, lambda: f"{event} is not {status}: {self.deliveries()}")
        return self.admin.delivery(self.tenant, found[0]["id"])


def tested(story: Story, who: Way, webhook: str, kind: str) -> Json:
    """*Test configuration*: one request, marked, that the endpoint believes and accepts; its body."""
    before = len(story.requests)
    result = who.act(story.tenant, webhook, "test")
    assert (result["outcome"], result["type"], len(result["attempts"])) == ("success", kind, 1)
    (got,) = story.requests[before:]
    assert (got.reason, got.headers["webhook-test"], got.webhook_id) == (None, "true", result["webhook_id"])
    assert who.show(story.tenant, webhook)["state"]["error"] is None
    story.answers()
    body: Json = json.loads(got.body)
    return body


def sent_again(story: Story, kind: str, times: int = 1) -> None:
    """The endpoint fails so many times: the same body comes under the same id, until it is accepted."""
    story.answers(Script(times=times))
    story.send(kind)
    got, _ = story.accepted()
    assert [(one.status, one.webhook_id, one.body) for one in story.requests] == [
        *((503, got.webhook_id, got.body) for _ in range(times)),
        (200, got.webhook_id, got.body),
    ]
    attempts = story.logged(story.last, "delivered")["attempts"]
    assert [one["status_code"] for one in attempts] == [503] * times + [200]
    story.answers()


def switched(story: Story, who: Way, webhook: str, kind: str) -> None:
    """Deactivate and activate from the list: what happens between is not received, what comes after it is."""
    assert who.act(story.tenant, webhook, "deactivate")["status"] == "inactive"
    assert [(one["id"], one["status"]) for one in who.listed(story.tenant)] == [(webhook, "inactive")]
    story.unheard(kind)
    assert who.act(story.tenant, webhook, "activate")["status"] == "active"
    assert [one["status"] for one in who.listed(story.tenant)] == ["active"]
    story.delivered(kind)


def removed(story: Story, who: Way, webhook: str, kind: str) -> None:
    """Remove it: it is in no list and gets nothing more, and what it has received is still told."""
    story.delivered(kind)
    event = story.last
    who.remove(story.tenant, webhook)
    assert who.listed(story.tenant) == []
    with story.refused("There is no such webhook."):
        who.show(story.tenant, webhook)
    story.unheard(kind)
    assert story.logged(event, "delivered")["webhook"] == webhook
