"""Every operation of the REST API: where it is, which role may do it at least, and how it may be refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.api import events, profiles, tenants, webhooks
from pipeline.api.roles import Role


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of the table. `refusals` are the statuses besides 401, 403 and, where there is a body, 400, 413, 422."""

    id: str
    method: str
    path: str
    endpoint: Callable[..., Any]
    least: Role
    status: int = 200
    refusals: tuple[int, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The first sentence of its documentation."""
        return (self.endpoint.__doc__ or self.id).partition("\n")[0].partition(". ")[0].rstrip(".")

    @property
    def tag(self) -> str:
        """The resource, as the documentation groups them."""
        return self.endpoint.__module__.rpartition(".")[2]


_T = "/v1/tenants"
_W = "/v1/tenants/{tenant}/webhooks"
_BATCH = {207: {"description": "Some of the batch were refused, the others are stored.", "model": events.Batch}}
_EVENTS = {"response_model": events.Accepted | events.Batch, "openapi_extra": {"requestBody": events.body_schema()}}

OPERATIONS = (
    Operation("createTenant", "POST", _T, tenants.create, Role.PLATFORM_ADMIN, 201, (409, 503)),
    Operation("listTenants", "GET", _T, tenants.listed, Role.PLATFORM_ADMIN, 200, (422,)),
    Operation("getTenant", "GET", f"{_T}/{{tenant}}", tenants.show, Role.VIEWER, 200, (404,)),
    Operation("updateTenant", "PATCH", f"{_T}/{{tenant}}", tenants.change, Role.PLATFORM_ADMIN, 200, (404, 503)),
    Operation("deleteTenant", "DELETE", f"{_T}/{{tenant}}", tenants.remove, Role.PLATFORM_ADMIN, 204, (404, 409, 503)),
    Operation("createWebhook", "POST", _W, webhooks.create, Role.MANAGER, 201, (404, 409, 503)),
    Operation("listWebhooks", "GET", _W, webhooks.listed, Role.VIEWER, 200, (404, 422)),
    Operation("getWebhook", "GET", f"{_W}/{{webhook}}", webhooks.show, Role.VIEWER, 200, (404,)),
    Operation("updateWebhook", "PATCH", f"{_W}/{{webhook}}", webhooks.change, Role.MANAGER, 200, (404, 503)),
    Operation("deleteWebhook", "DELETE", f"{_W}/{{webhook}}", webhooks.remove, Role.MANAGER, 204, (404, 503)),
    Operation(
        "activateWebhook", "POST", f"{_W}/{{webhook}}/activate", webhooks.activate, Role.MANAGER, 200, (404, 409, 503)
    ),
    Operation(
        "deactivateWebhook", "POST", f"{_W}/{{webhook}}/deactivate", webhooks.deactivate, Role.MANAGER, 200, (404, 503)
    ),
    Operation(
        "rotateSecret",
        "POST",
        f"{_W}/{{webhook}}/rotate-secret",
        webhooks.rotate_secret,
        Role.MANAGER,
        200,
        (404, 409, 503),
    ),
    Operation(
        "sendEvents",
        "POST",
        f"{_T}/{{tenant}}/events",
        events.post,
        Role.INGEST,
        202,
        (404, 503),
        {**_EVENTS, "responses": _BATCH},
    ),
    Operation("listProfiles", "GET", "/v1/profiles", profiles.listed, Role.VIEWER),
    Operation("getProfile", "GET", "/v1/profiles/{profile}", profiles.show, Role.VIEWER, 200, (404,)),
)
"""Where a product asks for more than a manager to configure its webhooks, its profile says so (`least_role`)."""
