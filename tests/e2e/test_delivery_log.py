"""Deliveries sent again, stopped and recovered through the API, beside the running stages and a recorder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.embedded.addresses import claim
from pipeline.flow.event import Event
from pipeline.http.receiver import Expectation, Received, Script
from pipeline.profiles import PROFILES
from tests.e2e import flow as parts
from tests.e2e import stages
from tests.e2e.flow import Flow, Hook
from tests.leashed import leashed, told_to_stop

pytestmark = pytest.mark.kafka

WITHIN_S = 60.0
KEY = "test-admin-key"
SINCE = "2020-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class World:
    """The flow, and the API over its log."""

    flow: Flow
    client: httpx.Client

    def send(self, hook: Hook, event: str) -> None:
        """An event of the hook's tenant."""
        self.flow.send(Event(event, hook.tenant.id, "order.paid", time.time_ns() // 1_000_000, '{"n":1}'))

    def get(self, hook: Hook, path: str) -> Any:
        """What the API says."""
        answer = self.client.get(f"/v1/tenants/{hook.tenant.id}/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, hook: Hook, path: str, body: Any = None, status: int = 202) -> Any:
        """What comes of it, once it has this status: what has just been written is seen a moment later."""
        answer = self.client.post(f"/v1/tenants/{hook.tenant.id}/{path}", json=body)

        def again() -> bool:
            nonlocal answer
            if answer.status_code != status:
                answer = self.client.post(f"/v1/tenants/{hook.tenant.id}/{path}", json=body)
            return answer.status_code == status

        until(again, lambda: answer.text)
        return answer.json()

    def standing(self, hook: Hook, event: str, status: str) -> dict[str, Any]:
        """The hook's delivery of the event, once it stands so."""
        found: list[Any] = []

        def stands() -> bool:
            listed = self.get(hook, f"deliveries?webhook={hook.subscription.webhook}")["items"]
            found[:] = [one for one in listed if one["event"] == event]
            return [one["status"] for one in found] == [status]

        until(stands, lambda: found)
        return dict(found[0])

    def requests(self, hook: Hook, count: int) -> list[Received]:
        """The requests that came to the hook, once there are so many."""
        self.flow.until(hook, lambda: len(hook.receiver.requests(hook.path)) >= count)
        return list(hook.receiver.requests(hook.path))

    def mend(self, hook: Hook) -> None:
        """The endpoint answers 200 from now on; its requests are counted anew."""
        held = hook.receiver._tallies[hook.path].expectation
        hook.receiver.expect(hook.path, Expectation(PROFILES["standard"], held.auth_type, held.secrets))


def until(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    end = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.05)


@contextmanager
def api(flow: Flow, folder: Path) -> Iterator[httpx.Client]:
    """The API's own process, over the recorder's log; at the end it drains."""
    health, port = claim(0, "health", ""), claim(0, "api", "")
    variables = {**parts._variables(flow.settings), "PIPELINE_DATA_DIR": str(folder), "PIPELINE_ADMIN_KEY": KEY}
    command = stages.command("run", "api", "--health-port", str(health), "--port", str(port))
    with leashed("api", command, folder, stages.bare(variables, folder)) as child:
        stage = stages.Stage("api", child, health)
        until(lambda: not stage.troubles(), lambda: (stage.troubles(), child.last_words(20)))
        headers = {"Authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False, timeout=30) as client:
            yield client
        told_to_stop(child, 40)


@pytest.fixture(scope="module")
def world(flow: Flow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("log")
    variables = {**parts._variables(flow.settings), "PIPELINE_DATA_DIR": str(folder)}
    with api(flow, folder) as client:
        # The API is there before the database is: all but the log's operations is served.
        assert client.get("/v1/profiles").status_code == 200
        with stages.running(("recorder",), variables, folder):
            yield World(flow, client)


def test_a_delivery_is_sent_again(world: World) -> None:
    """The same webhook-id and the same bytes arrive again, and both rounds are in its history."""
    hook = world.flow.hook()
    world.send(hook, "e1")
    held = world.standing(hook, "e1", "delivered")
    given = world.post(hook, f"deliveries/{held['id']}/redeliver")
    first, second = world.requests(hook, 2)
    assert (first.webhook_id, first.body) == (second.webhook_id, second.body)
    assert first.webhook_id == held["id"]
    assert (first.reason, second.reason) == (None, None)
    until(
        lambda: world.standing(hook, "e1", "delivered")["round"] == given["round"],
        lambda: world.get(hook, f"deliveries/{held['id']}"),
    )
    shown = world.get(hook, f"deliveries/{held['id']}")
    assert [(one["round"], one["attempt"]) for one in shown["attempts"]] == [("", 1), (given["round"], 1)]
    assert shown["body"].encode() == first.body


def test_a_delivery_is_cancelled(world: World) -> None:
    """One that is being retried ends without another request; sent again it arrives."""
    hook = world.flow.hook(answers=Script(status=503))
    world.send(hook, "e1")
    held = world.standing(hook, "e1", "retrying")
    said = world.post(hook, f"deliveries/{held['id']}/cancel")
    assert said["round"] == ""
    world.standing(hook, "e1", "cancelled")
    shown = world.get(hook, f"deliveries/{held['id']}")
    verdicts = [one["verdict"] for one in shown["attempts"]]
    assert verdicts == ["rejected"] * (len(verdicts) - 1) + ["skipped"]
    assert len(hook.receiver.requests(hook.path)) == len(verdicts) - 1
    assert len(verdicts) < 10
    world.mend(hook)
    world.post(hook, f"deliveries/{held['id']}/redeliver")
    (got,) = world.requests(hook, 1)
    assert got.webhook_id == held["id"]
    world.standing(hook, "e1", "delivered")


def test_a_webhook_is_recovered(world: World) -> None:
    """What was skipped and what was never routed is counted and ordered again; why it was not routed is told before."""
    hook = world.flow.hook(answers=Script(status=503))
    neighbour = world.flow.hook(tenant=hook.tenant)
    world.send(hook, "skipped")
    world.standing(hook, "skipped", "retrying")
    webhook = hook.subscription
    world.flow.write_webhook(replace(webhook, active=False, version=2))
    world.standing(hook, "skipped", "cancelled")
    world.send(hook, "missed")
    world.standing(neighbour, "missed", "delivered")
    why = {one["webhook"]: one for one in world.get(hook, "events/missed/explain")["items"]}
    assert why[webhook.webhook]["reason"] == "inactive"
    assert why[neighbour.subscription.webhook]["subscriptions_offset"] > 0
    world.mend(hook)
    active = replace(webhook, version=3, generation=webhook.generation + 1)
    world.flow.write_webhook(active)
    recover = f"webhooks/{webhook.webhook}/recover"

    def counted() -> list[int]:
        """The router's offsets are committed a moment later: what is behind them may still be on its way."""
        dry = world.post(hook, recover, {"since": SINCE, "dry_run": True}, status=200)
        return [dry[kind]["count"] for kind in ("failed", "cancelled", "unrouted")]

    until(lambda: counted() == [0, 1, 1], counted)
    ordered = world.post(hook, recover, {"since": SINCE})
    assert (ordered["outcome"], ordered["webhooks"], ordered["state"]) == ("missed", [webhook.webhook], "queued")
    assert sum(span["to"] - span["from"] for span in ordered["window"]) >= 2
