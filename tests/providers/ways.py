"""The two ways to do the same: over REST, and on the command line."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

import httpx

from pipeline.cli import invoke

Json = dict[str, Any]


class Refused(Exception):
    """What was asked for is refused, in these words."""


@dataclass(frozen=True)
class Rest:
    """Plain HTTP, as any client speaks it."""

    url: str
    key: str

    def with_key(self, key: str) -> Rest:
        """The same with another key."""
        return Rest(self.url, key)

    def make_tenant(self, tenant: str, profile: str, **own: Any) -> Json:
        """POST /v1/tenants."""
        return self._ask("POST", "/v1/tenants", {"id": tenant, "name": f"{tenant} Ltd", "profile": profile, **own})

    def change_tenant(self, tenant: str, **own: Any) -> Json:
        """PATCH of the tenant."""
        return self._ask("PATCH", f"/v1/tenants/{tenant}", own)

    def make_key(self, tenant: str, role: str) -> str:
        """POST /v1/keys."""
        return str(self._ask("POST", "/v1/keys", {"tenant": tenant, "role": role})["key"])

    def create(self, tenant: str, **webhook: Any) -> Json:
        """POST of a webhook."""
        return self._ask("POST", f"/v1/tenants/{tenant}/webhooks", webhook)

    def update(self, tenant: str, webhook: str, **changes: Any) -> Json:
        """PATCH of the webhook."""
        return self._ask("PATCH", f"/v1/tenants/{tenant}/webhooks/{webhook}", changes)

    def show(self, tenant: str, webhook: str) -> Json:
        """GET of the webhook."""
        return self._ask("GET", f"/v1/tenants/{tenant}/webhooks/{webhook}")

    def listed(self, tenant: str) -> list[Json]:
        """GET of all webhooks."""
        return list(self._ask("GET", f"/v1/tenants/{tenant}/webhooks")["items"])

    def act(self, tenant: str, webhook: str, what: str) -> Json:
        """POST of one of the webhook's actions."""
        return self._ask("POST", f"/v1/tenants/{tenant}/webhooks/{webhook}/{what}")

    def remove(self, tenant: str, webhook: str) -> None:
        """DELETE of the webhook."""
        self._ask("DELETE", f"/v1/tenants/{tenant}/webhooks/{webhook}")

    def send(self, tenant: str, event: Json) -> None:
        """POST of an event."""
        self._ask("POST", f"/v1/tenants/{tenant}/events", event)

    def deliveries(self, tenant: str, webhook: str | None = None) -> list[Json]:
        """GET of deliveries, newest first: the tenant's, or the webhook's."""
        narrowed = f"?webhook={webhook}" if webhook else ""
        return list(self._ask("GET", f"/v1/tenants/{tenant}/deliveries{narrowed}")["items"])

    def delivery(self, tenant: str, delivery: str) -> Json:
        """GET of one, with its attempts."""
        return self._ask("GET", f"/v1/tenants/{tenant}/deliveries/{delivery}")

    def profile(self, name: str) -> Json:
        """GET of the product."""
        return self._ask("GET", f"/v1/profiles/{name}")

    def _ask(self, method: str, path: str, body: Json | None = None) -> Json:
        headers = {"Authorization": f"Bearer {self.key}"}
        answer = httpx.request(method, self.url + path, json=body, headers=headers, timeout=60, trust_env=False)
        if answer.is_client_error:
            problem = answer.json()
            raise Refused(f"{problem['detail']} {[error['message'] for error in problem['errors']]}")
        assert answer.is_success, answer.text
        return dict(answer.json()) if answer.content else {}


@dataclass(frozen=True)
class Cli:
    """`pipeline …`, in this process: two hundred interpreters would take minutes to start."""

    url: str
    key: str

    def with_key(self, key: str) -> Cli:
        """The same with another key."""
        return Cli(self.url, key)

    def make_tenant(self, tenant: str, profile: str, **own: Any) -> Json:
        """`tenants create`."""
        return self._said("tenants", "create", tenant, "--profile", profile, *_options(name=f"{tenant} Ltd", **own))

    def change_tenant(self, tenant: str, **own: Any) -> Json:
        """`tenants update`."""
        return self._said("tenants", "update", tenant, *_options(**own))

    def make_key(self, tenant: str, role: str) -> str:
        """`keys create`."""
        return str(self._said("keys", "create", "--tenant", tenant, "--role", role)["key"])

    def create(self, tenant: str, **webhook: Any) -> Json:
        """`webhooks create`."""
        return self._said("webhooks", "create", tenant, *_webhook(**webhook))

    def update(self, tenant: str, webhook: str, **changes: Any) -> Json:
        """`webhooks update`."""
        return self._said("webhooks", "update", tenant, webhook, *_webhook(**changes))

    def show(self, tenant: str, webhook: str) -> Json:
        """`webhooks show`."""
        return self._said("webhooks", "show", tenant, webhook)

    def listed(self, tenant: str) -> list[Json]:
        """`webhooks list`."""
        return self._said("webhooks", "list", tenant)  # type: ignore[return-value]

    def act(self, tenant: str, webhook: str, what: str) -> Json:
        """`webhooks activate`, `deactivate` or `test`."""
        return self._said("webhooks", what, tenant, webhook)

    def remove(self, tenant: str, webhook: str) -> None:
        """`webhooks delete`."""
        self._called("webhooks", "delete", tenant, webhook)

    def send(self, tenant: str, event: Json) -> None:
        """`events send`."""
        plain = {name: value for name, value in event.items() if name != "data"}
        self._said("events", "send", tenant, *_options(**plain, data=json.dumps(event["data"])))

    def deliveries(self, tenant: str, webhook: str | None = None) -> list[Json]:
        """`deliveries list`."""
        return self._said("deliveries", "list", tenant, *_options(webhook=webhook or []))  # type: ignore[return-value]

    def delivery(self, tenant: str, delivery: str) -> Json:
        """`deliveries show`."""
        return self._said("deliveries", "show", tenant, delivery)

    def profile(self, name: str) -> Json:
        """`profiles show`."""
        return self._said("profiles", "show", name)

    def _said(self, *arguments: str) -> Json:
        said: Json = json.loads(self._called(*arguments, "-o", "json"))
        return said

    def _called(self, *arguments: str) -> str:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = invoke([*arguments, "--api-url", self.url, "--api-key", self.key])
        if code == 2:
            raise Refused(err.getvalue())
        failed_test = code == 1 and arguments[:2] == ("webhooks", "test")
        assert code == 0 or failed_test, f"{arguments}: exit code {code}: {err.getvalue()}"
        return out.getvalue()


_NAMES = {"events": "event", "components": "component"}


def _webhook(**fields: Any) -> list[str]:
    auth = fields.pop("auth", {})
    given = {**{_NAMES.get(name, name): value for name, value in fields.items()}, **auth}
    if "type" in given:
        given["auth-type"] = given.pop("type")
    headers = [f"{name}: {value}" for name, value in given.pop("headers", {}).items()]
    return [*_options(**given), *_options(header=headers)]


def _options(**given: Any) -> list[str]:
    return [word for name, value in given.items() for each in _each(value) for word in (f"--{name}", str(each))]


def _each(value: Any) -> Iterator[Any]:
    yield from value if isinstance(value, list) else [value]


Way = Rest | Cli
"""All that a customer does on the product's page, and what its services and the platform do beside it."""
WAYS = (Rest, Cli)
