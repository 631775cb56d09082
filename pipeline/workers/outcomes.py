"""What became of an event at a webhook: over all its deliveries there, those of replays too."""

from __future__ import annotations

from collections.abc import Collection

from pipeline.flow.history import Status
from pipeline.flow.replay import Outcome

_SETTLED = frozenset({Status.FAILED, Status.CANCELLED})


def outcome_of(statuses: Collection[Status]) -> Outcome | None:
    """Of the statuses of its deliveries there; None where one has been delivered or is under way."""
    if not statuses:
        return Outcome.NEVER_ROUTED
    if not _SETTLED.issuperset(statuses):
        return None
    return Outcome.FAILED if Status.FAILED in statuses else Outcome.SKIPPED


def wanted(asked: Outcome, found: Outcome | None) -> bool:
    """Whether a replay that asks for this outcome delivers the event to that webhook."""
    match asked:
        case Outcome.ALL:
            return True
        case Outcome.MISSED:
            return found is not None
    return found is asked
