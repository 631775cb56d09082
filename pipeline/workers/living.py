"""What of the flow is still somebody's: nothing of a tenant that has been removed comes into the log again.

The topics hold a removed tenant's records until their retention ends, and the recorder may read them after the removal,
or all of them anew. They are not recorded: neither for a tenant that is not there, nor for a later one of the same id.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, assert_never

from pipeline.flow import audit
from pipeline.flow.audit import Audit
from pipeline.flow.deadletter import Reason
from pipeline.flow.history import AttemptSeen, AuditSeen, DeadSeen, DeliverySeen, Entry, EventSeen


class Tenants(Protocol):
    """The tenants as they are."""

    def since_ms(self, tenant: str) -> int | None:
        """From when on records are this tenant's: 0 where no earlier one had its id. None: it is not there.

        As far as the tenants have been read.
        """

    def was_removed(self, tenant: str) -> None:
        """A tenant of that id has been removed; there may be a later one."""

    async def newest(self) -> None:
        """Read on to where the tenants end now."""


def tenant_of(entry: Entry) -> str | None:
    """Whose entry it is, as far as it says so."""
    match entry:
        case EventSeen() | DeliverySeen() | DeadSeen():
            return entry.tenant
        case AttemptSeen(attempt):
            return attempt.tenant
        case AuditSeen():  # who changed what is the platform's to know, also of tenants that are gone
            return None
    assert_never(entry)


def removed_in(entry: Entry | None) -> str | None:
    """The tenant of whose removal the entry tells."""
    match entry:
        case AuditSeen(Audit(action=audit.TENANT_REMOVED, tenant=tenant)):
            return tenant
    return None


def kept(entry: Entry, written_ms: int, tenants: Tenants) -> Entry | None:
    """The entry as the log is to hold it; None: not at all. `written_ms` is the record's timestamp.

    What was set aside because nobody knew the tenant stays, as nobody's: the sentence says which id it named.
    """
    tenant = tenant_of(entry)
    if tenant is None:
        return entry
    since_ms = tenants.since_ms(tenant)
    if since_ms is not None and written_ms >= since_ms:
        return entry
    if isinstance(entry, DeadSeen) and entry.reason == Reason.UNKNOWN_TENANT:
        return replace(entry, tenant=None, event=None, type=None)
    return None
