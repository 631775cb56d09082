"""Who may do what, asked of every operation of the OpenAPI document with every kind of key.

What is expected is derived from the document alone: `x-least-role`, `x-configures` and the paths' parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import httpx

from pipeline.api.app import create_app
from pipeline.flow.history import DeadSeen, DeliverySeen, Entry, EventSeen
from pipeline.flow.replay import Ordered, Replay, Span
from pipeline.kafka.topics import REPLAYS
from pipeline.profiles import PROFILES
from tests.api.conftest import URL, Api
from tests.api.parts import NOW_MS, Parts, memory_parts
from tests.prepared import ADMIN_KEY

RANKS = ("viewer", "manager", "admin", "owner", "platform_admin")
"""Each role may do what those before it may; `ingest` stands aside, and only the platform's admin may do that too."""
ROLES = ("ingest", *RANKS)
TENANTS = {"acme": "standard", "hunters": "bugbounty"}
"""The tenants whose keys are tried, each with its product: one leaves webhooks to its admins, one to its managers."""
FOREIGN = "other"
SOMEBODYS = {"tenant", "key", "replay", "letter"}
"""Parameters of paths that name what belongs to a tenant, and so may be another's."""
ANYBODYS = {"profile"}
"""Those that name the same for all."""
WITHIN = {"webhook", "event", "delivery"}
"""Those that name something within `{tenant}`."""
NOT_YOURS = {f"There is no such {name}." for name in SOMEBODYS}
"""How it is refused what is another's."""
KEYED = "/v1/"
"""Where these paths begin, nothing is answered without a key."""
BODIES = {"recoverWebhook": {"since": "2026-01-01T00:00:00Z"}}
"""Bodies that are good, of operations that need one and name something within `{tenant}`."""

Document = dict[str, Any]
DOCUMENT: Document = create_app(memory_parts().deps).openapi()


@dataclass(frozen=True)
class Operation:
    """One of the document's."""

    id: str
    method: str
    path: str
    least: str
    configures: bool

    @property
    def parameters(self) -> set[str]:
        """The names in its path."""
        return {part[1:-1] for part in self.path.split("/") if part.startswith("{")}


def operations(document: Document) -> list[Operation]:
    """All of the document's that need a key. `KeyError` where one does not say who may do it."""
    return [
        Operation(one["operationId"], method.upper(), path, one["x-least-role"], one["x-configures"])
        for path, methods in document["paths"].items()
        if path.startswith(KEYED)
        for method, one in methods.items()
        if one.get("security") != []
    ]


def may(role: str, least: str) -> bool:
    """Whether the role is at least that one."""
    if "ingest" in {role, least}:
        return role in {least, "platform_admin"}
    return RANKS.index(role) >= RANKS.index(least)


@dataclass(frozen=True)
class Case:
    """One request: an operation, asked by a role with a key that is good, revoked or not there, of a tenant.

    What is named `within` the tenant may be another's.
    """

    operation: Operation
    role: str
    tenant: str
    key: str
    asked: str
    within: str

    def expected(self) -> str:
        """What the document promises."""
        if self.key != "good":
            return "nobody"
        names = self.operation.parameters & SOMEBODYS if self.asked == FOREIGN else set()
        if self.role != "platform_admin" and "tenant" in names:
            return "hidden"
        product = PROFILES[TENANTS[self.tenant]].least_role if self.operation.configures else self.operation.least
        if not (may(self.role, self.operation.least) and may(self.role, product)):
            return "forbidden"
        if names and self.role != "platform_admin":
            return "hidden"
        return "reached" if self.within == self.asked else "missing"


def cases(operation: Operation) -> Iterator[Case]:
    """Every role, for its own tenant and for another; of each product's tenant where products differ."""
    for role in ROLES:
        for tenant in TENANTS if operation.configures else ("acme",):
            yield Case(operation, role, tenant, "good", tenant, tenant)
            if operation.parameters & SOMEBODYS:
                yield Case(operation, role, tenant, "good", FOREIGN, FOREIGN)
            if operation.parameters & WITHIN:
                yield Case(operation, role, tenant, "good", tenant, FOREIGN)
        yield Case(operation, role, "acme", "revoked", "acme", "acme")
    yield Case(operation, "viewer", "acme", "none", "acme", "acme")


class World:
    """The application and three tenants, each with a webhook, an event, a delivery, and keys of every role.

    Each request finds it as new.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        transport = httpx.ASGITransport(create_app(parts.deps), raise_app_exceptions=False)
        self.view, self.client = parts.view, httpx.AsyncClient(transport=transport, base_url="http://api")
        self.keys: dict[tuple[str, str, str], str] = {}
        self.names: dict[str, dict[str, str]] = {}
        self.records: dict[str, dict[str, bytes]] = {}
        self._logged = False

    async def __aenter__(self) -> Self:
        """All of it is made over REST."""
        api = Api(self.client).using(ADMIN_KEY)
        for tenant, profile in {**TENANTS, FOREIGN: "standard"}.items():
            hooks = await api.tenant(profile, tenant, programs=1)
            webhook = (await api.post(hooks, {"url": URL, "events": ["*"]}))["id"]
            keys = [await self._add_keys(api, role, tenant) for role in ROLES]
            inner = {"webhook": webhook, "event": f"evt-{tenant}", "delivery": f"msg_{tenant}"}
            whose = {"tenant": tenant, "key": keys[0], "replay": self._add_replay(tenant)}
            self.names[tenant] = {"profile": "standard", "letter": f"dl_{tenant}", **whose, **inner}
        self.records = {topic: dict(held) for topic, held in self.view.records.items()}
        return self

    async def __aexit__(self, *_raised: object) -> None:
        """Let go of the application."""
        await self.client.aclose()

    async def _add_keys(self, api: Api, role: str, tenant: str) -> str:
        """A good key of the role and a revoked one; the id of the former."""
        whose = {} if role == "platform_admin" else {"tenant": tenant}
        good, revoked = [await api.post("/v1/keys", {"role": role, **whose}) for _ in range(2)]
        await api.ask("DELETE", f"/v1/keys/{revoked['id']}", None, 204)
        self.keys |= {(role, tenant, "good"): good["key"], (role, tenant, "revoked"): revoked["key"]}
        return str(good["id"])

    def _add_replay(self, tenant: str) -> str:
        """An order that runs; its id."""
        order = Replay(f"rpl_{tenant}", tenant, Ordered.RUNNING, (Span(0, 0, 1),), created_ms=NOW_MS + 1_000_000)
        self.view.put(REPLAYS, order.id, self.parts.codec.encode_replay(order))
        return order.id

    async def violation(self, case: Case) -> str | None:
        """What is wrong with the answer; None when it is as expected, and whoever is refused has changed nothing."""
        await self._restore()
        inner = {name: self.names[case.within][name] for name in WITHIN}
        path = case.operation.path.format_map({**self.names[case.asked], **inner})
        wrong = {"no-such-field": 1} if case.within == case.asked else BODIES.get(case.operation.id, {})
        body = None if case.operation.method in {"GET", "DELETE"} else wrong
        key = self.keys.get((case.role, case.tenant, case.key))
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._logged = case.operation.method != "DELETE"  # which may have removed it from the log
        found = _outcome(await self.client.request(case.operation.method, path, headers=headers, json=body))
        changed = found != "reached" and self.view.records != self.records
        if found == case.expected() and not changed:
            return None
        asked = f"{case.asked}" + f" for what is {case.within}'s" * (case.within != case.asked)
        return f"{case.operation.id} by {case.role} of {asked}: {found} instead of {case.expected()}, {changed=}"

    async def _restore(self) -> None:
        if not self._logged:
            seen = [entry for place, names in enumerate(self.names.values()) for entry in _seen(names, place)]
            await self.parts.deps.log.ask(lambda log: log.write(seen))
            self._logged = True
        for topic, held in self.records.items():
            for key in {*held, *self.view.records[topic]}:
                if held.get(key) != self.view.records[topic].get(key):
                    self.view.put(topic, key, held.get(key))


def _seen(names: dict[str, str], offset: int) -> list[Entry]:
    """What the delivery log has of a tenant."""
    event = EventSeen(names["tenant"], names["event"], "a.b", NOW_MS, 0, offset)
    told = (event.tenant, names["delivery"], "", names["webhook"], event.id, event.type)
    dead = DeadSeen(names["letter"], told[0], told[3], None, "", "gone", NOW_MS + 1_000_000, 0, offset, "")
    return [event, dead, DeliverySeen(*told, NOW_MS, 0, offset, NOW_MS, 1, None, 0, offset, 0)]


def _outcome(answer: httpx.Response) -> str:
    match answer.status_code:
        case 401:
            return "nobody"
        case 403:
            return "forbidden"
        case 404 if answer.json()["detail"] in NOT_YOURS:
            return "hidden"
        case 404:
            return "missing"
        case status if status >= 500:
            return f"broken ({answer.text})"
    return "reached"


async def violations(world: World, operation: Operation) -> list[str]:
    """All that is wrong with an operation."""
    return [wrong for case in cases(operation) if (wrong := await world.violation(case)) is not None]
