"""The demo's count, fed with records as Kafka would show them."""

from __future__ import annotations

import pytest

from pipeline.cli._demo_scene import Part
from pipeline.cli._demo_score import Score, Totals, as_json
from pipeline.flow.deadletter import DeadLetter, Reason, Source
from pipeline.flow.deliver import Answers, Attempt, Dead, Done, Next, Retry, Verdict
from pipeline.profiles import PROFILES

STANDARD = PROFILES["standard"]
MAIN = Part(STANDARD, "t", "wh_1", "/standard", lambda _type: True)
GONE = Part(STANDARD, "t", "wh_2", "/standard/gone", lambda name: name == "user.deactivated", gone=True)
OTHER = Part(PROFILES["qase"], "q", "wh_3", "/qase", lambda _type: True)


def attempt(delivery: str, event: str, then: Next, *, number: int = 1, webhook: str = "wh_1") -> Attempt:
    verdict, status = (Verdict.DELIVERED, 200) if isinstance(then, Done) else (Verdict.REJECTED, 503)
    return Attempt(
        *(delivery, "", number, event, "t", webhook, "invoice.paid", number, 0, 1),
        *(verdict, status, (), (), b"", then, Answers(0, 0)),
    )


def letter(name: str, key: bytes = b"t/wh_2") -> DeadLetter:
    return DeadLetter(name, Reason.GONE, "gone", Source("deliveries", 0, 0), 0, key)


class Accepted(dict[str, frozenset[str]]):
    """What the receivers have accepted, by path."""

    def __call__(self, part: Part) -> frozenset[str]:
        """Those of this part."""
        return self.get(part.path, frozenset())


@pytest.fixture
def accepted() -> Accepted:
    return Accepted()


@pytest.fixture
def score(accepted: Accepted) -> Score:
    return Score((MAIN, OTHER, GONE), accepted)


def test_a_settled_score(score: Score, accepted: Accepted) -> None:
    """When each delivery has ended as its endpoint demands and both sides agree, nothing is open."""
    score.sent("t", "e1", "invoice.paid")
    score.sent("t", "e2", "user.deactivated")
    score.saw(attempt("msg_1", "e1", Retry(5_000)))
    score.saw(attempt("msg_1", "e1", Done(), number=2))
    score.saw(attempt("msg_2", "e2", Done()))
    score.saw(attempt("msg_3", "e2", Dead("gone"), webhook="wh_2"))
    score.saw(letter("l1"))
    accepted["/standard"] = frozenset({"msg_1", "msg_2"})
    assert score.open() == []
    assert score.waiting() == {"standard": 0, "qase": 0}
    assert score.totals() == {"standard": Totals(2, 2, 2, 1, 1), "qase": Totals()}
    figures = {"events": 2, "delivered": 2, "verified": 2, "retried": 1, "dead": 1}
    assert as_json(score.totals())["profiles"]["standard"] == figures
    assert as_json(score.totals())["events"] == 2


def test_what_waits_is_open(score: Score) -> None:
    """A delivery without an attempt, and one that waits for its next, are named with their state."""
    score.sent("t", "e1", "invoice.paid")
    score.sent("t", "e2", "invoice.paid")
    score.saw(attempt("msg_2", "e2", Retry(10_000)))
    assert score.open() == [
        "t: invoice.paid: no attempt yet",
        "t: invoice.paid: attempt 1 came to 503, the next one 10 s later",
    ]
    assert score.waiting()["standard"] == 2


def test_a_wrong_end_is_open(score: Score) -> None:
    """A delivery that should have arrived and ended as a dead letter does not count as settled."""
    score.sent("t", "e1", "invoice.paid")
    score.saw(attempt("msg_1", "e1", Dead("exhausted")))
    score.saw(letter("l1", b"t/wh_1"))
    assert score.open() == ["t: invoice.paid: ended as a dead letter (exhausted) after 503"]


def test_both_sides_must_agree(score: Score, accepted: Accepted) -> None:
    """A delivery that one side counts and the other does not is open, whichever side it is."""
    score.sent("t", "e1", "invoice.paid")
    score.saw(attempt("msg_1", "e1", Done()))
    assert score.open() == ["t: msg_1 counts as delivered, not as verified"]
    accepted["/standard"] = frozenset({"msg_1", "msg_9"})
    assert score.open() == ["t: msg_9 is verified, not yet recorded"]


def test_a_dead_letter_must_be_there(score: Score) -> None:
    """A delivery that ended for good is open until its dead letter is seen."""
    score.sent("t", "e2", "user.deactivated")
    score.saw(attempt("msg_3", "e2", Dead("gone"), webhook="wh_2"))
    assert "t: 1 deliveries ended for good, and 0 dead letters are there" in score.open()


def test_other_tenants_do_not_count(score: Score) -> None:
    """What belongs to nobody on stage changes no figure."""
    score.saw(letter("l1", b"somebody/wh_1"))
    score.saw(attempt("msg_1", "e1", Done(), webhook="wh_unknown"))
    assert score.totals()["qase"] == Totals()
    assert score.totals()["standard"].dead == 0
