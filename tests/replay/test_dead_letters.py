"""Dead letters brought back: one by hand, a filtered set, and events that could not be routed at first."""

from __future__ import annotations

import secrets
import time

import pytest

from pipeline.flow.event import Event
from pipeline.http.receiver import Script
from tests.live_cluster import LiveCluster
from tests.providers.system import System, eventually
from tests.providers.ways import Json, Refused, Rest
from tests.replay.customers import Customer, Hook, Replay, bare, once

pytestmark = [pytest.mark.kafka, pytest.mark.replay]

DEAD = "/v1/dead-letters"


def _broken(system: System, count: int) -> tuple[Hook, list[Json]]:
    """A webhook whose endpoint was gone for these events and is there again; their dead letters, oldest first."""
    hook = Customer.new(system).hook("*")
    for _ in range(count):
        hook.endpoint.answer(Script(status=410))
        (event,) = hook.customer.send("order.paid")
        hook.logged(event, "failed")
        hook.act("activate")
    hook.endpoint.answer(Script())
    eventually(lambda: len(_letters(hook)) == count, lambda: str(_letters(hook)))
    return hook, _letters(hook)


def _letters(hook: Hook, **wanted: str) -> list[Json]:
    asked = "&".join(f"{name}={value}" for name, value in {"webhook": hook.id, **wanted}.items())
    found: list[Json] = hook.customer.admin._ask("GET", f"{DEAD}?tenant={hook.customer.tenant}&{asked}")["items"]
    return found[::-1]


def _state(owner: Rest, letter: str) -> str:
    return str(owner._ask("GET", f"{DEAD}/{letter}")["state"])


def test_one_is_redriven_under_its_own_id(system: System) -> None:
    """It arrives under the webhook-id that it had, is known as redriven, and is in the audit record."""
    hook, (letter,) = _broken(system, 1)
    owner = hook.customer.admin
    assert (letter["reason"], letter["state"]) == ("gone", "waiting")
    owner._ask("POST", f"{DEAD}/{letter['id']}/redrive")
    hook.endpoint.until(1)
    (got,) = hook.endpoint.got()
    assert got.webhook_id == letter["delivery"]
    eventually(lambda: _state(owner, letter["id"]) == "redriven", lambda: _state(owner, letter["id"]))
    assert hook.endpoint.came() == once(list(hook.customer.types))


def test_a_discarded_one_stays_where_it_is(system: System) -> None:
    """It is kept, says so, and can be redriven no more; nor by anybody else's key."""
    hook, (letter,) = _broken(system, 1)
    owner, stranger = hook.customer.admin, Customer.new(system).admin
    with pytest.raises(Refused, match="no such"):
        stranger._ask("DELETE", f"{DEAD}/{letter['id']}")
    owner._ask("DELETE", f"{DEAD}/{letter['id']}")
    eventually(lambda: _state(owner, letter["id"]) == "discarded", lambda: _state(owner, letter["id"]))
    with pytest.raises(Refused, match="discarded"):
        owner._ask("POST", f"{DEAD}/{letter['id']}/redrive")
    assert hook.endpoint.came() == {}


def test_a_filtered_set_is_redriven(system: System) -> None:
    """What the dry run counts arrives, each once under its own id; the discarded one does not."""
    hook, (first, *rest) = _broken(system, 4)
    owner = hook.customer.admin
    owner._ask("DELETE", f"{DEAD}/{first['id']}")
    eventually(lambda: len(_letters(hook, state="waiting")) == len(rest))
    wanted = {"tenant": hook.customer.tenant, "webhook": hook.id}
    counted = owner._ask("POST", f"{DEAD}/redrive", {**wanted, "dry_run": True})
    assert counted["letters"] == len(rest)
    answer = owner._ask("POST", f"{DEAD}/redrive", wanted)
    shown = Replay(owner, answer["id"], answer).until("done")
    assert (shown["source"], shown["progress"]["deliveries"]) == ("dead_letters", len(rest))
    eventually(lambda: sum(owner._ask("GET", f"/v1/replays/{answer['id']}")["statuses"].values()) == len(rest))
    hook.endpoint.until(len(rest))
    eventually(lambda: len(_letters(hook, state="redriven")) == len(rest))
    assert hook.endpoint.came() == once([letter["event"] for letter in rest])
    assert {got.webhook_id for got in hook.endpoint.got()} == {letter["delivery"] for letter in rest}


def test_an_event_that_could_not_be_routed_is_routed_anew(system: System, cluster: LiveCluster) -> None:
    """Its tenant was not known; once it is, the event of the dead letter goes to whoever wants it."""
    tenant, platform = f"unknown-{secrets.token_hex(6)}", Rest(system.url, system.key)
    bare(cluster, Event("e0", tenant, "order.paid", time.time_ns() // 1_000_000, '{"event": "e0"}'))
    (letter,) = _of_nobody(platform, tenant)
    platform.make_tenant(tenant, "standard")
    hook = Customer(system, tenant, platform.with_key(platform.make_key(tenant, "admin"))).hook("*")
    platform._ask("POST", f"{DEAD}/{letter['id']}/redrive")
    hook.endpoint.until(1)
    eventually(lambda: _state(platform, letter["id"]) == "redriven", lambda: _state(platform, letter["id"]))
    assert hook.endpoint.came() == once(["e0"])


def _of_nobody(platform: Rest, tenant: str) -> list[Json]:
    """The dead letters that name this tenant, once there are any."""
    found: list[Json] = []

    def there() -> bool:
        items = platform._ask("GET", f"{DEAD}?reason=unknown_tenant")["items"]
        found[:] = [one for one in items if tenant in one["detail"]]
        return bool(found)

    eventually(there)
    return found
