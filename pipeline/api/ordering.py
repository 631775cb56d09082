"""What may be asked of a replay, and how it is judged: each refusal says what would work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Annotated

from pydantic import Field

from pipeline.api.deps import Deps
from pipeline.api.drafts import Owner
from pipeline.api.forms import MAX_EVENTS, EventName
from pipeline.api.lists import Id, Strict, read_time
from pipeline.api.log.sending import require_active
from pipeline.api.log.shown import written
from pipeline.api.problems import FieldError, Refusal, invalid
from pipeline.api.standing import OutcomeName
from pipeline.api.targets import TargetForm
from pipeline.flow.replay import DEFAULT_RATE, LEAST_RATE, MOST_RATE, Outcome, Replay, Source
from pipeline.flow.window import Asked, Empty, Window
from pipeline.profiles import PROFILES, Catalogue

MAX_WEBHOOKS = 100
MAX_PARTITIONS = 10_000
MOST_OF_TENANT, MOST = 10, 50
"""So many replays that are not over there may be: of one tenant, and in all."""

_When = Annotated[str, Field(max_length=64)]
_Offset = Annotated[int, Field(ge=0, lt=2**53)]
_NAMED = 10
"""So many of the catalogue's types a refusal names."""
_EMPTY = {
    Empty.NOTHING: "There are no records in this window",
    Empty.REMOVED: "Retention has taken all of this window",
    Empty.UNROUTED: "All of this window is on its way for the first time: what becomes of it is not known yet",
}


class SpanForm(Strict):
    """Offsets of one partition: from `from` on, before `to`."""

    partition: Annotated[int, Field(ge=0, lt=2**31)] = Field(examples=[0])
    from_: _Offset = Field(alias="from", examples=[100])
    to: _Offset = Field(examples=[200])


class ReplayIn(Strict):
    """Which events, to whom: what is not given does not narrow. Give `from` (and `to`), or `offsets`."""

    tenant: Id | None = Field(
        default=None, description="Whose events: yours, when it is missing; a platform's admin: everybody's."
    )
    from_: _When | None = Field(
        default=None,
        alias="from",
        description="What came at this time (RFC 3339) or later.",
        examples=["2026-01-31T12:00:00Z"],
    )
    to: _When | None = Field(default=None, description="What came before this time; now, when it is missing.")
    offsets: Annotated[list[SpanForm], Field(min_length=1, max_length=MAX_PARTITIONS)] | None = Field(
        default=None, description="Offsets of topic `events`, in place of times."
    )
    types: Annotated[list[EventName], Field(min_length=1, max_length=MAX_EVENTS)] | None = Field(
        default=None, description="Of these event types; `prefix*` too."
    )
    webhooks: Annotated[list[Id], Field(min_length=1, max_length=MAX_WEBHOOKS)] | None = Field(
        default=None, description="To these webhooks of the tenant alone, also such as did not exist then."
    )
    outcome: OutcomeName = Field(
        default="all",
        description="What must have become of an event at a webhook, over all its deliveries there: it failed, was "
        "skipped, was never routed, or any of the three (missed).",
    )
    target: TargetForm | None = Field(default=None, description="To this URL alone, in place of webhooks.")
    rate: Annotated[float, Field(ge=LEAST_RATE, le=MOST_RATE)] | None = Field(
        default=None, description=f"Deliveries a second at most; {DEFAULT_RATE:g}, when it is missing."
    )
    dry_run: bool = Field(default=False, description="Count, and write nothing.")


def asked(body: ReplayIn) -> Asked:
    """The window that is asked for. Raises `Refusal` (422)."""
    if (body.from_ is None) == (body.offsets is None):
        words = "Say since when (`from`), or which `offsets`" if body.from_ is None else "Give `from`, or `offsets`"
        raise invalid([FieldError("/from", "window", words)])
    routed = Outcome(body.outcome) is not Outcome.ALL
    if body.offsets is not None:
        return Asked(offsets=_offsets(body, body.offsets), routed=routed)
    from_ms = read_time(body.from_ or "", "/from")
    to_ms = None if body.to is None else read_time(body.to, "/to")
    if to_ms is not None and to_ms <= max(from_ms, 0):  # no record is older, and Kafka takes -1 for the log's end
        raise invalid([FieldError("/to", "window", "The window is empty: `to` must be later than `from`")])
    return Asked(from_ms, to_ms, routed=routed)


def _offsets(body: ReplayIn, spans: Sequence[SpanForm]) -> dict[int, tuple[int, int]]:
    if body.to is not None:
        raise invalid([FieldError("/to", "window", "Give times, or `offsets`")])
    errors = []
    for place, span in enumerate(spans):
        if span.to <= span.from_:
            errors.append(FieldError(f"/offsets/{place}/to", "window", "`to` must be greater than `from`"))
        if any(span.partition == other.partition for other in spans[:place]):
            errors.append(FieldError(f"/offsets/{place}/partition", "twice", "A partition may be given once"))
    if errors:
        raise invalid(errors)
    return {span.partition: (span.from_, span.to) for span in spans}


async def judge(deps: Deps, tenant: str | None, body: ReplayIn) -> None:
    """Raise `Refusal` for what could not be sent: 422 for what is not there, 409 for a webhook that is not active."""
    if tenant is not None:
        Owner.of(deps, tenant).require_preconditions()
    errors = [*_types(deps, tenant, body), *_webhooks(deps, tenant, body), *_target(tenant, body)]
    if errors:
        raise invalid(errors)
    for webhook in body.webhooks or ():
        await require_active(deps, tenant or "", deps.directory.webhook(tenant or "", webhook))


def _types(deps: Deps, tenant: str | None, body: ReplayIn) -> Iterator[FieldError]:
    names = list(PROFILES) if tenant is None else [deps.tenant(tenant).profile]
    catalogues = [PROFILES[name].catalogue for name in names]
    for place, wanted in enumerate(body.types or ()):
        refusals = [catalogue.refusal((wanted,)) for catalogue in catalogues]
        if all(refusals):
            yield FieldError(f"/types/{place}", "type", f"{refusals[0]}: {_choice(catalogues)}")


def _choice(catalogues: Sequence[Catalogue]) -> str:
    names = [name for catalogue in catalogues for name in catalogue.by_name]
    if not names:
        return "a type is written like `invoice.paid`, and many like `invoice.*`"
    more = ", …" if len(names) > _NAMED else ""
    return f"choose from {', '.join(names[:_NAMED])}{more}, or many by `prefix*`"


def _webhooks(deps: Deps, tenant: str | None, body: ReplayIn) -> Iterator[FieldError]:
    if body.webhooks is None:
        return
    if tenant is None:
        yield FieldError("/tenant", "required", "Name the tenant whose webhooks these are")
        return
    for place, webhook in enumerate(body.webhooks):
        held = deps.directory.webhook(tenant, webhook)
        if held is None or held.replay is not None:
            words = f"Tenant {tenant} has no webhook {webhook}: `pipeline webhooks list {tenant}` shows those it has"
            yield FieldError(f"/webhooks/{place}", "webhook", words)


def _target(tenant: str | None, body: ReplayIn) -> Iterator[FieldError]:
    if body.target is None:
        return
    if tenant is None:
        yield FieldError("/tenant", "required", "Name the tenant whose events are sent to this URL")
    if body.webhooks is not None:
        yield FieldError("/webhooks", "target", "Give webhooks, or a target: two replays send to both")
    if Outcome(body.outcome) is not Outcome.ALL:
        words = "Nothing was ever delivered to a URL that is given for this replay alone: leave the outcome at all"
        yield FieldError("/outcome", "target", words)


def require_records(window: Window, where: str) -> None:
    """Raise `Refusal` (422), naming this field, for a window in which there is nothing any more, or not yet."""
    if window.empty is None:
        return
    words = _EMPTY[window.empty]
    if window.oldest_ms is not None and window.newest_ms is not None:
        words += f"; there are some from {written(window.oldest_ms)} to {written(window.newest_ms)}"
    raise invalid([FieldError(where, "window", words)])


def require_room(deps: Deps, order: Replay) -> None:
    """Raise `Refusal` (409) while too many are under way, or one that would send the same to the same webhook."""
    active = [one for one in deps.replays.of(None) if not deps.replays.is_over(one)]
    own = [one for one in active if one.tenant == order.tenant]
    if len(own) >= MOST_OF_TENANT or len(active) >= MOST:
        words = "Too many replays are under way: wait until one has ended, or cancel one (`pipeline replays list`)."
        raise Refusal(HTTPStatus.CONFLICT, words)
    for one in active:
        if _same(one, order):
            words = f"Replay {one.id} is sending the same: wait until it has ended, or cancel it."
            raise Refusal(HTTPStatus.CONFLICT, words)


def _same(one: Replay, other: Replay) -> bool:
    """Whether both ask what became of the same at the same webhooks: that is not known before one has ended.

    A redrive asks it of every dead letter.
    """
    if one.source is not other.source:
        return False
    if one.source is Source.EVENTS and Outcome.ALL in {one.outcome, other.outcome}:
        return False
    tenants = None in {one.tenant, other.tenant} or one.tenant == other.tenant
    webhooks = not (one.webhooks and other.webhooks) or bool({*one.webhooks} & {*other.webhooks})
    ends = {span.partition: span for span in one.window}
    windows = any(
        (held := ends.get(span.partition)) is not None and span.start < held.end and held.start < span.end
        for span in other.window
    )
    return tenants and webhooks and windows
