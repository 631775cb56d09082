"""Every operation of the REST API: where it is, which role may do it at least, and how it may be refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.api import (
    audit,
    events,
    filters,
    keys,
    profiles,
    recovery,
    replays,
    secrets,
    tenants,
    trials,
    webhooks,
)
from pipeline.api.lists import ListOf
from pipeline.api.log import dead_letters, deliveries, redriving
from pipeline.api.log import events as log_events
from pipeline.api.log.letters import LetterCounts, LetterOut
from pipeline.api.log.shown import EventDetail
from pipeline.api.planning import PLAN_STREAM, PlanOut
from pipeline.api.progress import EVENT_STREAM, TrialOut
from pipeline.api.standing import ReplayStarted
from pipeline.flow.access import Role
from pipeline.flow.audit import LETTER_DISCARDED


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of the table. `refusals` are the statuses besides 401, 403, 422 and, where there is a body, 400, 413.

    What `configures` webhooks needs the least role of the tenant's product as well. A tenant's key reaches that tenant
    alone, by whatever path.
    """

    id: str
    method: str
    path: str
    endpoint: Callable[..., Any]
    least: Role
    status: int = 200
    refusals: tuple[int, ...] = ()
    configures: bool = False
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
_K = "/v1/keys"
_R = "/v1/replays"
_L = "/v1/dead-letters"
_W = "/v1/tenants/{tenant}/webhooks"
_E = "/v1/tenants/{tenant}/events"
_D = "/v1/tenants/{tenant}/deliveries"
_BATCH = {207: {"description": "Some of the batch were refused, the others are stored.", "model": events.Batch}}
_EVENTS = {"response_model": events.Accepted | events.Batch, "openapi_extra": {"requestBody": events.body_schema()}}
_LOGGED = (404, 503)
_DRY = {200: {"description": "A dry run: nothing is sent.", "model": recovery.Recovered}}
_COUNTED = {200: {"description": "A dry run: nothing is sent.", "model": redriving.RedrivePlan}}
_PLAN = {200: {"model": PlanOut, **PLAN_STREAM}}
_FILTER = {"openapi_extra": {"requestBody": filters.body_schema()}}

OPERATIONS = (
    Operation("createTenant", "POST", _T, tenants.create, Role.PLATFORM_ADMIN, 201, (409, 503)),
    Operation("listTenants", "GET", _T, tenants.listed, Role.PLATFORM_ADMIN, 200),
    Operation("getTenant", "GET", f"{_T}/{{tenant}}", tenants.show, Role.VIEWER, 200, (404,)),
    Operation("updateTenant", "PATCH", f"{_T}/{{tenant}}", tenants.change, Role.PLATFORM_ADMIN, 200, (404, 503)),
    Operation("deleteTenant", "DELETE", f"{_T}/{{tenant}}", tenants.remove, Role.PLATFORM_ADMIN, 200, (404, 409, 503)),
    Operation("createWebhook", "POST", _W, webhooks.create, Role.MANAGER, 201, (404, 409, 503), configures=True),
    Operation("listWebhooks", "GET", _W, webhooks.listed, Role.VIEWER, 200, (404,)),
    Operation("getWebhook", "GET", f"{_W}/{{webhook}}", webhooks.show, Role.VIEWER, 200, (404,)),
    Operation(
        "updateWebhook", "PATCH", f"{_W}/{{webhook}}", webhooks.change, Role.MANAGER, 200, (404, 503), configures=True
    ),
    Operation(
        "deleteWebhook", "DELETE", f"{_W}/{{webhook}}", webhooks.remove, Role.MANAGER, 204, (404, 503), configures=True
    ),
    Operation(
        "activateWebhook",
        "POST",
        f"{_W}/{{webhook}}/activate",
        webhooks.activate,
        Role.MANAGER,
        200,
        (404, 409, 503),
        configures=True,
    ),
    Operation(
        "deactivateWebhook",
        "POST",
        f"{_W}/{{webhook}}/deactivate",
        webhooks.deactivate,
        Role.MANAGER,
        200,
        (404, 503),
        configures=True,
    ),
    Operation(
        "testWebhook",
        "POST",
        f"{_W}/{{webhook}}/test",
        trials.run,
        Role.MANAGER,
        200,
        (404, 409, 429),
        configures=True,
        more={"response_model": TrialOut, "responses": {200: EVENT_STREAM}},
    ),
    Operation(
        "rotateSecret",
        "POST",
        f"{_W}/{{webhook}}/rotate-secret",
        webhooks.rotate_secret,
        Role.MANAGER,
        200,
        (404, 409, 503),
        configures=True,
    ),
    Operation(
        "testWebhookFilter",
        "POST",
        f"{_W}/{{webhook}}/filter/test",
        filters.test_webhook,
        Role.VIEWER,
        200,
        (404,),
        more=_FILTER,
    ),
    Operation(
        "testFilter", "POST", f"{_T}/{{tenant}}/filter/test", filters.test, Role.VIEWER, 200, (404,), more=_FILTER
    ),
    Operation(
        "sendEvents",
        "POST",
        f"{_T}/{{tenant}}/events",
        events.post,
        Role.INGEST,
        202,
        (404, 429, 503),
        more={**_EVENTS, "responses": _BATCH},
    ),
    Operation("listEvents", "GET", _E, log_events.listed, Role.VIEWER, 200, _LOGGED),
    Operation("explainEvent", "GET", f"{_E}/{{event:path}}/explain", log_events.explain, Role.VIEWER, 200, _LOGGED),
    Operation(
        "getEvent",
        "GET",
        f"{_E}/{{event:path}}",
        log_events.show,
        Role.VIEWER,
        200,
        _LOGGED,
        more={"response_model": EventDetail},
    ),
    Operation("listDeliveries", "GET", _D, deliveries.listed, Role.VIEWER, 200, _LOGGED),
    Operation("getDelivery", "GET", f"{_D}/{{delivery}}", deliveries.show, Role.VIEWER, 200, _LOGGED),
    Operation(
        "redeliver", "POST", f"{_D}/{{delivery}}/redeliver", deliveries.redeliver, Role.MANAGER, 202, (404, 409, 503)
    ),
    Operation(
        "cancelDelivery", "POST", f"{_D}/{{delivery}}/cancel", deliveries.cancel, Role.MANAGER, 202, (404, 409, 503)
    ),
    Operation(
        "recoverWebhook",
        "POST",
        f"{_W}/{{webhook}}/recover",
        recovery.recover,
        Role.ADMIN,
        202,
        (404, 409, 429, 503),
        more={"response_model": ReplayStarted, "responses": _DRY},
    ),
    Operation(
        "createReplay",
        "POST",
        _R,
        replays.create,
        Role.ADMIN,
        202,
        (404, 409, 429, 503),
        more={"response_model": ReplayStarted, "responses": _PLAN},
    ),
    Operation("listReplays", "GET", _R, replays.listed, Role.ADMIN, 200, (404,)),
    Operation("getReplay", "GET", f"{_R}/{{replay}}", replays.show, Role.ADMIN, 200, (404,)),
    Operation("pauseReplay", "POST", f"{_R}/{{replay}}/pause", replays.pause, Role.ADMIN, 202, (404, 409, 503)),
    Operation("resumeReplay", "POST", f"{_R}/{{replay}}/resume", replays.resume, Role.ADMIN, 202, (404, 409, 503)),
    Operation("cancelReplay", "POST", f"{_R}/{{replay}}/cancel", replays.cancel, Role.ADMIN, 202, (404, 409, 503)),
    Operation(
        "listDeadLetters",
        "GET",
        _L,
        dead_letters.listed,
        Role.ADMIN,
        200,
        _LOGGED,
        more={"response_model": ListOf[LetterOut] | LetterCounts},
    ),
    Operation(
        "redriveDeadLetters",
        "POST",
        f"{_L}/redrive",
        redriving.redrive,
        Role.ADMIN,
        202,
        (404, 409, 503),
        more={"response_model": ReplayStarted, "responses": _COUNTED},
    ),
    Operation("getDeadLetter", "GET", f"{_L}/{{letter}}", dead_letters.show, Role.ADMIN, 200, _LOGGED),
    Operation(
        "redriveDeadLetter",
        "POST",
        f"{_L}/{{letter}}/redrive",
        dead_letters.redrive,
        Role.ADMIN,
        202,
        (404, 409, 503),
    ),
    Operation(LETTER_DISCARDED, "DELETE", f"{_L}/{{letter}}", dead_letters.discard, Role.ADMIN, 204, (404, 409, 503)),
    Operation("getSecrets", "GET", "/v1/secrets", secrets.show, Role.PLATFORM_ADMIN),
    Operation("rotateSecrets", "POST", "/v1/secrets/rotate", secrets.rotate, Role.PLATFORM_ADMIN, 200, (503,)),
    Operation("createKey", "POST", _K, keys.create, Role.OWNER, 201, (404, 503)),
    Operation("listKeys", "GET", _K, keys.listed, Role.OWNER, 200, (404,)),
    Operation("getKey", "GET", f"{_K}/{{key}}", keys.show, Role.OWNER, 200, (404,)),
    Operation("revokeKey", "DELETE", f"{_K}/{{key}}", keys.revoke, Role.OWNER, 204, (404, 503)),
    Operation("listAudits", "GET", "/v1/audit", audit.listed, Role.ADMIN, 200, (404, 503)),
    Operation("listProfiles", "GET", "/v1/profiles", profiles.listed, Role.VIEWER),
    Operation("getProfile", "GET", "/v1/profiles/{profile}", profiles.show, Role.VIEWER, 200, (404,)),
)
"""The only list of who may do what. Keys are an owner's matter: who has one could give it to anybody."""
