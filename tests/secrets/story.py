"""One run of a deployment with canaries for secrets: all that may happen to them, and what is there to be searched."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import trustme

from pipeline.cli._private import write_private
from pipeline.profiles import examples
from tests.http.mutual import client_certificate
from tests.secrets.badly import badly_started
from tests.secrets.canaries import Hunt, Place
from tests.secrets.deployment import Deployment, deployed, new_key, until, whsec
from tests.secrets.endpoints import Endpoints, endpoints

TENANTS: dict[str, dict[str, Any]] = {
    "standard": {"programs": 1},
    "qase": {"plan": "business"},
    "monithq": {},
    "inspectorio": {},
    "bugbounty": {"programs": 1},
    "monitorqa": {},
}


def _text() -> str:
    return f"canary+{secrets.token_hex(12)}/x"


@dataclass
class Story:
    """What was done, and what is there to be searched at its end."""

    hunt: Hunt
    there: Endpoints
    places: list[Place] = field(default_factory=list)
    rotation: dict[str, Any] = field(default_factory=dict)
    status: list[dict[str, Any]] = field(default_factory=list)
    loaded: str = ""
    sent: int = 0
    anew: dict[str, list[str]] = field(default_factory=dict)


@contextlib.contextmanager
def lived_through(folder: Path) -> Iterator[Story]:
    """The whole story in that folder; its endpoints are there until the end."""
    hunt = Hunt()
    for name in ("admin key", "registry password", "proxy password", "Kafka password", "database password"):
        hunt.add(name, f"canary{secrets.token_hex(16)}")
    old, new = new_key(hunt, "k1"), new_key(hunt, "k2")
    keys = folder / "keys"
    write_private(keys, f"{old},{new}")
    with endpoints(folder, f"proxy:{hunt.canaries['proxy password'].values[0].decode()}") as there:
        told = Story(hunt, there)
        with deployed(folder / "data", hunt, there, keys) as up:
            hooks = _configured(up, there)
            _delivered(up, there, hooks)
            _refused(up)
            told.places += badly_started(up, folder)
            write_private(keys, f"{new},{old}")
            up.restart_api()
            assert up.api.good("GET", "/v1/secrets")["key"] == "k2"
            _rotated(up, there, hooks, told)
            _listed(up)
            _erased(up, told)
            told.places += [*up.api.places, *up.processes(), *up.told(), *up.topics()]
        told.places += up.files()
        yield told


_FAILING = {"ed25519", "ed25519-made", "monithq"}
"""Whose tests would repeat for seconds, or who were told that they are gone."""
Hooks = dict[str, dict[str, Any]]


def _configured(up: Deployment, there: Endpoints) -> Hooks:
    """Webhooks of every way to authenticate, secrets given and generated, with headers, certificates and keys."""
    for name, more in TENANTS.items():
        up.api.good("POST", "/v1/tenants", {"id": name, "name": name, "profile": name, **more})
    made: Hooks = {}
    token, bearer = up.hunt.add("header", _text()), up.hunt.add("bearer token", f"canary{secrets.token_hex(12)}")
    headers = {"X-Token": token, "Authorization": f"Bearer {bearer}"}

    def add(name: str, tenant: str, path: str, auth: Any = None, *, tls: bool = False, **more: Any) -> None:
        """A webhook; a secret that is generated is shown by this answer alone."""
        kinds = {"events": [example.type for example in examples(tenant)][:1]} if tenant != "monitorqa" else {}
        url = f"{there.tls if tls else there.plain}/{path}/{name}"
        body = {"url": url, "name": name, **kinds, **({"auth": auth} if auth else {}), **more}
        answer = up.api.good("POST", f"/v1/tenants/{tenant}/webhooks", body, (f"generated: {name}",))
        shown = answer["auth"].get("secret", "")
        if "…" not in shown and shown:
            up.hunt.add(f"generated: {name}", shown)
        made[name] = {**answer, "path": f"/{path}/{name}"}

    given = {"type": "standard_webhooks", "secret": up.hunt.add("given: hmac", whsec())}
    add("hmac", "standard", "echo", given, headers=headers)
    add("hmac-made", "standard", "flaky")
    add("ed25519", "standard", "gone", {"secret": up.hunt.add("given: ed25519", _whsk())})
    add("ed25519-made", "standard", "fail", {"algorithm": "ed25519"})
    add("load", "standard", "ok", events=[_FIRST, _LOADED])
    add("qase", "qase", "echo", {"secret": up.hunt.add("given: qase", _text())})
    add("monithq", "monithq", "flaky", {"secret": up.hunt.add("given: monithq", _text())})
    basic = {"type": "basic", "username": "user", "password": up.hunt.add("Basic password", _text())}
    add("basic", "inspectorio", "echo", basic)
    add("proxied", "standard", "", url="http://93.184.216.34/")
    certificate = client_certificate(trustme.CA(), "acme")
    for number, line in enumerate(certificate.private_key.splitlines()[1:-1]):
        up.hunt.add(f"private key, line {number}", line)
    pair = {"certificate": certificate.certificate, "private_key": certificate.private_key}
    add("default", "bugbounty", "ok", tls=True, client_certificate=pair)
    add("default-mq", "monitorqa", "echo", headers={"X-Token": token})
    for role in ("owner", "viewer", "ingest"):
        key = up.api.good("POST", "/v1/keys", {"role": role, "tenant": "standard"}, (f"key of {role}",))["key"]
        up.hunt.add(f"key of {role}", key.rpartition("_")[2])
    return made


def _delivered(up: Deployment, there: Endpoints, hooks: Hooks) -> None:
    """An event of each product's, through success, failure, repetition and death, and a test of each webhook."""
    for tenant in TENANTS:
        example = examples(tenant)[0]
        event = {"type": example.type, "data": json.loads(example.data), "id": "first"}
        more = {name: value for name, value in (("actor", example.actor), ("subject", example.subject)) if value}
        up.api.good("POST", f"/v1/tenants/{tenant}/events", event | more)
    until(lambda: there.got.tunnels, "a tunnel through the proxy")
    for name, hook in hooks.items():
        if name == "proxied":
            continue
        until(partial(there.got.to, hook["path"]), f"a request to {name}")
        if name not in _FAILING:
            up.api.ask("POST", f"/v1/tenants/{hook['tenant']}/webhooks/{hook['id']}/test", {})
    place = f"/v1/tenants/standard/webhooks/{hooks['hmac-made']['id']}"
    up.hunt.add("rotated to", whsec())
    up.api.good("POST", f"{place}/rotate-secret", {"secret": up.hunt.canaries["rotated to"].values[0].decode()})
    made = up.api.good("POST", f"{place}/rotate-secret", {"algorithm": "ed25519"}, ("rotated: made",))
    up.hunt.add("rotated: made", made["auth"]["secret"])
    edited = up.hunt.add("edited Basic password", _text())
    basic = f"/v1/tenants/inspectorio/webhooks/{hooks['basic']['id']}"
    up.api.good("PATCH", basic, {"auth": {"password": edited}, "url": f"{there.plain}/fail/basic2"})
    until(lambda: _failed(up), "a delivery that has failed for good, in the log")


def _failed(up: Deployment) -> Any:
    return up.api.ask("GET", "/v1/tenants/standard/deliveries?status=failed").json().get("items")


def _refused(up: Deployment) -> None:
    """Requests that are wrong in every way, each with a secret in it."""
    hunt, hooks = up.hunt, "/v1/tenants/standard/webhooks"
    text = hunt.add("refused secret", _text())
    body = {"url": "https://example.com/", "events": ["*"]}
    for wrong in (
        {**body, "auth": {"secret": text}},
        {**body, "auth": {"type": text, "secret": text}},
        {**body, "auth": {"secret": [text]}},
        {**body, "auth": {"password": text}},
        {**body, "auth": {"algorithm": text}},
        {**body, "auth": text},
        {**body, "headers": {"X-Token": f"{text}\r\nX: y"}},
        {**body, "headers": {"X-Token": {"value": text}}},
        {**body, "client_certificate": {"certificate": text, "private_key": text}},
        {**body, "secret": text},
        {**body, "url": f"https://user:{text}@example.com/"},
        [text],
    ):
        assert up.api.ask("POST", hooks, wrong).status_code == 422, wrong
    for unreadable in (f'{{"auth": "{text}'.encode(), text.encode(), json.dumps(body).encode() + text.encode()):
        assert up.api.ask("POST", hooks, unreadable).status_code == 400
    up.api.ask("POST", "/v1/tenants/standard/events", f'{{"type": "a", "data": {text}}}'.encode())
    up.api.ask("POST", "/v1/secrets/rotate", {"keys": text})
    for key in (text, f"whk_{text}_{text}"):
        answer = up.api.ask("GET", "/v1/tenants", headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 401


def _rotated(up: Deployment, there: Endpoints, hooks: Hooks, told: Story) -> None:
    """The deployment's key is rotated, a tenant at a time, while events flow."""
    load = _Load(up, told)
    told.loaded = hooks["load"]["path"]
    load.start()
    try:
        until(lambda: len(there.got.to(told.loaded)) > OTHERS + 40, "the load to flow")
        after: str | None = None
        while True:
            before, told.rotation = told.sent, up.api.good("POST", "/v1/secrets/rotate", {"limit": 1, "after": after})
            assert told.rotation["failed"] == []
            until(lambda before=before: told.sent > before, "events that are sent meanwhile")  # type: ignore[misc]
            if (after := told.rotation["next"]) is None:
                break
    finally:
        load.over.set()
        load.join()
    assert load.failed is None, load.failed
    told.status = up.api.good("GET", "/v1/secrets")["keys"]
    until(lambda: len(ids(there, told.loaded)) == told.sent + OTHERS, "all of the load")


class _Load(threading.Thread):
    """Sends events, four at a time, until it is over."""

    def __init__(self, up: Deployment, told: Story) -> None:
        super().__init__()
        self._up, self._told = up, told
        self.over, self.failed = threading.Event(), cast("BaseException | None", None)

    def run(self) -> None:
        try:
            while not self.over.is_set():
                at = self._told.sent
                events = [{"id": f"load-{n}", "type": _LOADED, "data": {"n": n}} for n in range(at, at + 4)]
                self._up.api.good("POST", "/v1/tenants/standard/events", {"events": events})
                self._told.sent += 4
        except BaseException as error:  # noqa: BLE001 - told in the test's thread
            self.failed = error


_FIRST, _LOADED = (example.type for example in examples("standard")[:2])


OTHERS = 2
"""The first event, and the test."""


def ids(there: Endpoints, path: str) -> set[str]:
    """The webhook-ids that have come to a path."""
    return {headers["webhook-id"] for headers, _ in there.got.to(path)}


def _listed(up: Deployment) -> None:
    """Everything that can be read over REST."""
    ask = up.api.ask
    for path in ("tenants", "keys", "audit", "secrets", "profiles", "profiles/qase", "dead-letters", "replays"):
        ask("GET", f"/v1/{path}")
    ask("GET", "/openapi.json")
    ask("GET", "/v1/canary in a path?key=canary")
    for tenant in TENANTS:
        place = f"/v1/tenants/{tenant}"
        ask("GET", place)
        ask("GET", f"{place}/events")
        ask("GET", f"{place}/events/first/explain")
        ask("GET", f"{place}/dead-letters")
        for webhook in ask("GET", f"{place}/webhooks").json()["items"]:
            ask("GET", f"{place}/webhooks/{webhook['id']}")
        for delivery in ask("GET", f"{place}/deliveries?limit=30").json()["items"]:
            ask("GET", f"{place}/deliveries/{delivery['id']}")


def _erased(up: Deployment, told: Story) -> None:
    """A tenant is removed, and made again under the same id: it gets an event."""
    up.api.good("DELETE", "/v1/tenants/monithq")
    up.api.good("POST", "/v1/tenants", {"id": "monithq", "name": "monithq", "profile": "monithq"})
    example = examples("monithq")[0]
    event = {"id": "anew", "type": example.type, "data": json.loads(example.data)}
    up.api.good("POST", "/v1/tenants/monithq/events", event)
    until(lambda: _logged(up, "events"), "the event in the log")
    told.anew = {what: _logged(up, what) for what in ("events", "deliveries", "webhooks")}


def _logged(up: Deployment, what: str) -> list[str]:
    return [one["id"] for one in up.api.good("GET", f"/v1/tenants/monithq/{what}")["items"]]


def _whsk() -> str:
    return whsec().replace("whsec_", "whsk_")
