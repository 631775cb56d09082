"""What each product sends, for the `webhooks` section of the OpenAPI document: made of the profile's own data.

The bodies are the catalogue's examples as the profile renders them, the headers those of a request that it prepares,
so neither can say anything else than what is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import orjson

from pipeline.flow.deliver import Delivery, Origin, Verdict
from pipeline.flow.event import Event
from pipeline.flow.subscription import Tenant
from pipeline.profiles import PROFILES, RANDOM_BYTES, Example, Profile, Scheme, examples

_TENANT = "acme"
_EVENT, _DELIVERY = "evt-1", "msg_01jbx3z6w5v4t2s1r0q9p8n7m6"
_TIME_S = 1_767_225_600
_URL = "https://example.com/webhooks"
_TOLD = {
    "content-type": "Always JSON in UTF-8.",
    "user-agent": "Who sends.",
    "webhook-id": "The delivery's id: the same with every attempt, so a repeat can be told.",
    "webhook-timestamp": "When this attempt was made, in seconds since the epoch.",
    "webhook-signature": "Signatures of `id.timestamp.body`, each `v1,` (HMAC-SHA256) or `v1a,` (ed25519) and base64, "
    "separated by blanks: one that fits is enough.",
    "authorization": "HTTP Basic (RFC 7617), where the webhook has a username and a password.",
}
_KINDS: Sequence[tuple[type, str]] = (
    (bool, "boolean"),
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (list, "array"),
    (dict, "object"),
    (type(None), "null"),
)


def webhooks() -> dict[str, Any]:
    """The section: for each profile the POST that its webhooks get."""
    return {profile.name: {"post": _operation(profile)} for profile in PROFILES.values()}


def _operation(profile: Profile) -> dict[str, Any]:
    bodies = {example.type: _body(profile, example) for example in examples(profile.name)}
    content = {"schema": _schema(profile, bodies), "examples": {name: {"value": body} for name, body in bodies.items()}}
    return {
        "operationId": f"{profile.name}Event",
        "tags": ["sent"],
        "summary": f"{profile.title}: what a webhook of a customer ({profile.tenant_noun}) gets for an event",
        "description": _description(profile),
        "parameters": _parameters(profile),
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": _responses(profile),
        "security": [],
    }


def _body(profile: Profile, example: Example) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(
        profile.body(_event(example), Tenant(_TENANT, "Acme Ltd", profile.name), _DELIVERY)
    )
    return body


def _event(example: Example) -> Event:
    return example.event(_TENANT, _EVENT, _TIME_S * 1000)


def _schema(profile: Profile, bodies: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The envelope: which members there are and of which type."""
    names = list(dict.fromkeys(name for body in bodies.values() for name in body))
    required = [name for name in names if all(name in body for body in bodies.values())]
    members = {name: _member(profile, name, bodies) for name in names}
    return {"type": "object", "required": required, "properties": members}


def _member(profile: Profile, name: str, bodies: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    held = {kind: body[name] for kind, body in bodies.items() if name in body}
    if all(value == kind for kind, value in held.items()):
        return {"type": "string", "description": "The event's type.", **_types(profile)}
    data = {example.type: orjson.loads(example.data) for example in examples(profile.name)}
    if held == data:
        return {"description": "The event's `data`, as its producer wrote it.", **_data(profile)}
    kinds = list(dict.fromkeys(map(_kind, held.values())))
    return {"type": kinds[0] if len(kinds) == 1 else kinds}


def _data(profile: Profile) -> dict[str, Any]:
    """Any JSON, unless the product takes objects alone."""
    bare = replace(_event(examples(profile.name)[0]), data="1")
    return {"type": "object"} if profile.refusal(bare) else {}


def _types(profile: Profile) -> dict[str, Any]:
    pattern = profile.catalogue.pattern
    return (
        {"enum": list(profile.catalogue.by_name)}
        if pattern is None
        else {"pattern": f"^{pattern.pattern}$".replace(r"\Z", "$")}
    )


def _kind(value: Any) -> str:
    return next(name for kind, name in _KINDS if isinstance(value, kind))


def _parameters(profile: Profile) -> list[dict[str, Any]]:
    """A header each. One that only some ways to authenticate send need not be there."""
    sent = [dict(_headers(profile, scheme)) for scheme in profile.schemes]
    names = list(dict.fromkeys(name for headers in sent for name in headers))
    return [
        {
            "name": name,
            "in": "header",
            "required": all(name in headers for headers in sent) and not _optional(profile, name),
            "description": _TOLD.get(name.lower()) or f"{profile.title}'s own: {_title(profile, name)}.",
            "schema": {"type": "string"},
            "example": next(headers[name] for headers in sent if name in headers),
        }
        for name in names
    ]


def _headers(profile: Profile, scheme: Scheme) -> Iterable[tuple[str, str]]:
    example = examples(profile.name)[0]
    body = orjson.dumps(_body(profile, example))
    origin = Origin("events", 0, 0, 0)
    delivery = Delivery(_DELIVERY, _TENANT, "default", _EVENT, example.type, None, _TIME_S * 1000, body, 1, origin)
    request = profile.prepare(_URL, scheme.name, _secrets(scheme)).request(delivery, _TIME_S)
    return request.headers


def _secrets(scheme: Scheme) -> dict[str, str]:
    """Of nobody's: the same in every copy of the document."""
    return {one.name: f"your-{one.name}" for one in scheme.fields} | scheme.generate(bytes(range(RANDOM_BYTES)))


def _optional(profile: Profile, name: str) -> bool:
    """Whether the header is one of a secret that a webhook may do without."""
    schemes = [scheme for scheme in profile.schemes if name in scheme.headers]
    return any(not one.required for scheme in schemes for one in scheme.fields)


def _title(profile: Profile, name: str) -> str:
    return next(scheme.title for scheme in profile.schemes if name in scheme.headers).lower()


def _description(profile: Profile) -> str:
    rule, hours = profile.retry, sum(profile.retry.waits_ms) / 3_600_000
    tries = f"tried up to {rule.attempts} times, over {hours:.1f} hours" if rule.waits_ms else "tried once"
    follows = f" Up to {profile.max_redirects} redirects are followed." if profile.max_redirects else ""
    return (
        f"Answer within {profile.deadline_s:g} seconds. A delivery is {tries}, with the same body and `webhook-id`; "
        f"it may come twice.{follows} A customer's own headers come with it."
    )


def _responses(profile: Profile) -> dict[str, Any]:
    good = [status for status in range(200, 300) if status in profile.acknowledged]
    accepted = ["2XX"] if len(good) == len(range(200, 300)) else [str(status) for status in good]
    told = {status: {"description": "Delivered."} for status in accepted}
    for status, verdict in sorted(profile.retry.meanings.items()):
        told[str(status)] = {"description": _meaning(status, verdict)}
    last = Verdict.REJECTED in profile.retry.final
    rest = "Refused: it is not sent again." if last else "Refused: it is sent again later."
    return {**told, "default": {"description": rest}}


def _meaning(status: int, verdict: Verdict) -> str:
    words = {
        Verdict.GONE: "the webhook is disabled, and the delivery ends.",
        Verdict.RATE_LIMITED: "it is sent again later, not before `Retry-After`.",
        Verdict.REDIRECT: "where it is not followed, it is sent again later.",
    }
    return f"{HTTPStatus(status).phrase}: {words.get(verdict, verdict.value)}"
