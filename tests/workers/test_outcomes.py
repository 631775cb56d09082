"""What became of an event at a webhook, and which of that a replay asks for."""

from __future__ import annotations

import itertools

import pytest

from pipeline.flow.history import Status
from pipeline.flow.replay import Outcome
from pipeline.workers.outcomes import outcome_of, wanted

pytestmark = pytest.mark.replay

ONE_EACH = [()] + [some for length in (1, 2, 3) for some in itertools.combinations_with_replacement(Status, length)]


@pytest.mark.parametrize("statuses", ONE_EACH, ids=" ".join)
def test_what_was_delivered_or_is_under_way_has_no_outcome_to_ask_for(statuses: tuple[Status, ...]) -> None:
    """However many deliveries there are: one that came or may still come outweighs all others, a failed one a skip."""
    kinds = set(statuses)
    expected: Outcome | None = Outcome.NEVER_ROUTED
    if kinds & {Status.PENDING, Status.SENDING, Status.RETRYING, Status.DELIVERED}:
        expected = None
    elif Status.FAILED in kinds:
        expected = Outcome.FAILED
    elif kinds:
        expected = Outcome.SKIPPED
    assert outcome_of(statuses) is expected


@pytest.mark.parametrize("asked", Outcome)
def test_a_replay_gets_what_it_asks_for(asked: Outcome) -> None:
    """All is all; missed is each of the three; each of the three is itself alone."""
    found = (Outcome.FAILED, Outcome.SKIPPED, Outcome.NEVER_ROUTED, None)
    expected = {Outcome.ALL: set(found), Outcome.MISSED: set(found[:3])}.get(asked, {asked})
    assert {one for one in found if wanted(asked, one)} == expected
