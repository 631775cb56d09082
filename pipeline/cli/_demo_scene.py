"""What the demo puts on stage: a tenant and a webhook of every product, and receivers that check each one's rule."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from http import HTTPStatus
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from pipeline.errors import PipelineError
from pipeline.http.receiver import Expectation, Received, Receiver, Script
from pipeline.http.rest import Rest
from pipeline.profiles import PROFILES, RANDOM_BYTES, Example, Matcher, Profile, Scheme, examples
from pipeline.profiles.standard import STANDARD

UNWELL = Script(times=1, chosen=2)
"""503 once to each of two deliveries, so that the first tier of the ladder is seen at work."""
GONE = Script(status=HTTPStatus.GONE)
BROKEN = "broken"
"""In the demo's directory: a folder for files that are called like a product, each with a status as text, such as 500.

The product's receiver answers that to every verified request as long as the file is there.
"""
_STATUSES = range(200, 600)


@dataclass(frozen=True, slots=True)
class Part:
    """A webhook of the demo: whose it is, where it leads, which types it wants, and whether its endpoint is gone."""

    profile: Profile
    tenant: str
    webhook: str
    path: str
    wants: Matcher
    gone: bool = False


class Endpoints:
    """The receivers of all parts: one over HTTP, one over HTTPS for the products that require it.

    `on_request` hears of each request and whose it was. Files in `broken` break receivers, see `BROKEN`.
    """

    def __init__(self, on_request: Callable[[Profile, Received], object], broken: Path) -> None:
        self._on_request, self._broken = on_request, broken
        self._plain = Receiver({}, on_request=self._came, instead=self._instead)
        self._secure = Receiver({}, tls=True, on_request=self._came, instead=self._instead)
        self._profiles: dict[str, Profile] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Listen on free ports, all of them well."""
        self._broken.mkdir(parents=True, exist_ok=True)
        for name in PROFILES:
            (self._broken / name).unlink(missing_ok=True)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._plain)
            await stack.enter_async_context(self._secure)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening; what came stays known."""
        await self._stack.aclose()

    @property
    def ca_file(self) -> Path:
        """The authority whose certificate the HTTPS receiver shows."""
        assert self._secure.ca_file, "it listens"  # noqa: S101
        return self._secure.ca_file

    def of(self, profile: Profile) -> Receiver:
        """The receiver of the product's webhooks."""
        return self._secure if profile.https_only else self._plain

    def accepted(self, part: Part) -> frozenset[str]:
        """The webhook-ids that were verified and acknowledged."""
        return frozenset(self.of(part.profile).accepted(part.path))

    def expect(self, path: str, expectation: Expectation) -> None:
        """Expect this on a path from now on."""
        self._profiles[path] = expectation.profile
        self.of(expectation.profile).expect(path, expectation)

    def _instead(self, path: str) -> int | None:
        return broken_status(self._broken / self._profiles[path].name)

    def _came(self, path: str, _reason: str | None, _webhook_id: str, _body: bytes) -> None:
        profile = self._profiles[path]
        self._on_request(profile, self.of(profile).requests(path)[-1])


def broken_status(file: Path) -> int | None:
    """The status that the file holds; None where there is none, or nothing that can be answered."""
    try:
        told = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(told) if told.isdecimal() and int(told) in _STATUSES else None


def set_up(api: Rest, endpoints: Endpoints) -> tuple[Part, ...]:
    """Make a tenant and a webhook for each product, and one more whose endpoint is gone. Blocks."""
    taken = {tenant["id"] for tenant in api.all("/v1/tenants", 100_000)}
    ending = next(word for number in count(1) if not any(_id(p, word := _word(number)) in taken for p in PROFILES))
    parts = []
    for profile in PROFILES.values():
        tenant = _make_tenant(api, profile, _id(profile.name, ending))
        healthy = UNWELL if profile is STANDARD else Script()
        parts.append(_make_webhook(api, endpoints, profile, tenant, healthy))
    return (*parts, _gone(api, endpoints, parts[0].tenant))


def send(api: Rest, tenant: str, samples: Sequence[tuple[str, Example]]) -> None:
    """Send examples under these ids, one by itself or several as a batch. Blocks until Kafka has acknowledged all.

    Raises `PipelineError` when it has not, which may be tried again with the same ids.
    """
    texts = [_event(event_id, example) for event_id, example in samples]
    path = f"/v1/tenants/{tenant}/events"
    if len(texts) == 1:
        api.post(path, orjson.dumps(texts[0]))
        return
    items = api.post(path, orjson.dumps({"events": texts}))["items"]
    if failed := [item for item in items if item["status"] != HTTPStatus.ACCEPTED]:
        raise PipelineError(f"{len(failed)} of {len(items)} events of {tenant}: {failed[0]['detail']}")


def _id(profile_name: str, ending: str) -> str:
    return f"{profile_name}-demo{ending}"


def _word(number: int) -> str:
    """A directory that is used again holds the tenants of the demo before."""
    return "" if number == 1 else f"-{number}"


def _make_tenant(api: Rest, profile: Profile, tenant: str) -> str:
    """With what the products ask of a tenant: a plan that includes webhooks, and a program."""
    body = {"id": tenant, "name": f"{profile.title} demo", "profile": profile.name, "plan": "business", "programs": 1}
    made: dict[str, Any] = api.post("/v1/tenants", body)
    return str(made["id"])


def _gone(api: Rest, endpoints: Endpoints, tenant: str) -> Part:
    """A second webhook, which wants one type alone and answers 410."""
    only = (examples(STANDARD.name)[-1].type,)
    return _make_webhook(api, endpoints, STANDARD, tenant, GONE, events=only)


def _make_webhook(
    api: Rest, endpoints: Endpoints, profile: Profile, tenant: str, answers: Script, *, events: tuple[str, ...] = ("*",)
) -> Part:
    """Make it as its owner would, with the product's strongest authentication, and expect its requests."""
    gone = answers is GONE
    path, scheme = f"/{profile.name}{'/gone' if gone else ''}", profile.schemes[-1]
    chosen = _chosen(scheme)
    body: dict[str, Any] = {"name": "An endpoint that is gone" if gone else f"{profile.title} demo"}
    body |= {"url": endpoints.of(profile).url(path), "auth": {"type": scheme.name, **chosen}}
    if profile.chooses_events:
        body["events"] = list(events)
    made = api.post(f"/v1/tenants/{tenant}/webhooks", body)
    known = {f.name: chosen.get(f.name) or made["auth"][f.name] for f in scheme.fields}
    endpoints.expect(path, Expectation(profile, scheme.name, known, answers))
    return Part(profile, tenant, made["id"], path, profile.catalogue.matcher(events, ()), gone)


def _chosen(scheme: Scheme) -> dict[str, str]:
    """The secrets that a customer chooses; what the product generates is learned from its answer."""
    if scheme.generate(bytes(RANDOM_BYTES)):
        return {}
    return {f.name: secrets.token_hex(12) for f in scheme.fields}


def _event(event_id: str, example: Example) -> dict[str, Any]:
    whole = {"id": event_id, "type": example.type, "actor": example.actor, "subject": example.subject}
    return {**{name: said for name, said in whole.items() if said}, "data": orjson.Fragment(example.data)}
