"""The record of who changed what, from the delivery log."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field

from pipeline.api.auth import PrincipalOf
from pipeline.api.deps import DepsOf
from pipeline.api.lists import ListOf, WindowOf, cursor, read_time, written_time
from pipeline.api.log.narrowing import From, To
from pipeline.api.problems import not_found
from pipeline.flow.audit import Audit
from pipeline.store.log import AuditFilter


class AuditOut(BaseModel):
    """One change. Nothing of it is secret: of fields there are the names alone."""

    id: str
    time: str
    key: str = Field(description="The id of the key that it was made with; `admin` is the deployment's own.")
    role: str = Field(description="The key's role then.")
    action: str = Field(description="The operation's id.", examples=["updateWebhook"])
    tenant: str | None = Field(description="Whose it was; null: the platform's.")
    target: str = Field(description="The id of what was changed.")
    detail: str = Field(examples=["events, url"])


async def listed(
    window: WindowOf,
    who: PrincipalOf,
    deps: DepsOf,
    *,
    tenant: Annotated[str | None, Query(max_length=64, description="Only this tenant's.")] = None,
    from_: From = None,
    to: To = None,
) -> ListOf[AuditOut]:
    """Who changed what, newest first: in your tenant; a platform's admin sees all. It is there a moment later."""
    if who.tenant not in {None, tenant or who.tenant}:
        raise not_found("tenant")
    since_ms = 0 if from_ is None else read_time(from_, "/from")
    if who.tenant is not None:  # what an earlier tenant of this id did is not its to see
        since_ms = max(since_ms, deps.tenant(who.tenant).created_ms)
    wanted = AuditFilter(tenant or who.tenant, since_ms, None if to is None else read_time(to, "/to"))
    page = await deps.log.ask(lambda log: log.audits(wanted, window.after, window.limit))
    return ListOf(items=[shown(one) for one in page.items], next=cursor(page.next))


def shown(audit: Audit) -> AuditOut:
    """The change as clients see it."""
    return AuditOut(
        id=audit.id,
        time=written_time(audit.time_ms),
        key=audit.key,
        role=audit.role,
        action=audit.action,
        tenant=audit.tenant,
        target=audit.target,
        detail=audit.detail,
    )
