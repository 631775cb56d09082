"""The ledger counts what it is there to count: each test breaks one promise and sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.flight import End, Flight, Try, flight
from tests.faults.ledger import Arrival, Kind, Ledger, Tail

HOOKS = {"quick-0": ("wh_one", "wh_two"), "quick-1": ("wh_one",), "flaky-0": ("wh_one",)}


def _ledger(*acked: tuple[str, str]) -> Ledger:
    """One that knows these events, produced at 100 and acknowledged at 110."""
    ledger = Ledger(HOOKS)
    for event, tenant in acked:
        ledger.produce(["+", event, tenant, f"digest-{event}", "100"])
        ledger.produce(["=", event, "110"])
    return ledger


def _receive(
    ledger: Ledger,
    event: str,
    *,
    tenant: str = "quick-1",
    webhook: str = "wh_one",
    webhook_id: str = "",
    body_tenant: str = "",
    digest: str = "",
    status: int = 200,
    at: int = 120,
    replay: str = "",
    first: str = "",
) -> None:
    """One request that is right unless told otherwise."""
    own = f"msg-{event}-{webhook}"
    fields = webhook_id or own + replay, tenant, webhook, event, body_tenant or tenant
    told = str(status), str(at), replay, first or own * bool(replay)
    ledger.receive([*fields, digest or f"digest-{event}", *told])


def test_all_received_is_nothing_lost() -> None:
    """Every webhook of the tenant has got the event: nothing is counted."""
    ledger = _ledger(("a", "quick-0"), ("b", "quick-1"))
    _receive(ledger, "a", tenant="quick-0")
    _receive(ledger, "a", tenant="quick-0", webhook="wh_two")
    _receive(ledger, "b")
    assert (ledger.owed, len(ledger.received), ledger.lost) == (3, 3, [])
    assert (ledger.phantom, ledger.mismatched, ledger.duplicates) == (0, 0, {})


def test_a_lost_delivery_is_counted() -> None:
    """One of two webhooks has not got the event: one is lost."""
    ledger = _ledger(("a", "quick-0"))
    _receive(ledger, "a", tenant="quick-0", webhook="wh_two")
    assert ledger.lost == [("a", "wh_one")]


def test_a_refused_delivery_is_not_received() -> None:
    """A request that was answered 503 settles nothing; the one that is answered 200 does, and repeats nothing."""
    ledger = _ledger(("a", "flaky-0"))
    _receive(ledger, "a", tenant="flaky-0", status=503)
    assert ledger.lost == [("a", "wh_one")]
    _receive(ledger, "a", tenant="flaky-0")
    assert (ledger.lost, ledger.duplicates) == ([], {})


def test_an_event_that_was_not_acked_may_arrive_or_not() -> None:
    """Nothing is promised of it: neither its loss nor its arrival is counted."""
    ledger = Ledger(HOOKS)
    for event in ("a", "b"):
        ledger.produce(["+", event, "quick-1", f"digest-{event}", "100"])
    _receive(ledger, "a")
    assert (ledger.owed, ledger.lost, ledger.phantom) == (0, [], 0)


def test_the_acknowledgement_may_be_read_after_the_request() -> None:
    """A delivery may overtake its producer's acknowledgement: it is not waited for."""
    ledger = Ledger(HOOKS)
    ledger.produce(["+", "a", "quick-1", "digest-a", "100"])
    _receive(ledger, "a")
    ledger.produce(["=", "a", "130"])
    assert (ledger.owed, ledger.lost, ledger.oldest(Kind.QUICK)) == (1, [], None)


def test_a_phantom_is_counted() -> None:
    """A request with an event that nobody has produced is a phantom, and settles nothing."""
    ledger = _ledger(("a", "quick-1"))
    _receive(ledger, "b")
    assert (ledger.phantom, ledger.mismatched, ledger.lost) == (1, 0, [("a", "wh_one")])


@pytest.mark.parametrize(
    "wrong",
    [{"tenant": "flaky-0"}, {"body_tenant": "flaky-0"}, {"digest": "another"}, {"webhook": "wh_two"}],
    ids=["tenant", "tenant in the body", "body", "webhook"],
)
def test_a_mismatch_is_counted(wrong: dict[str, str]) -> None:
    """A request to a wrong place, or with a body that is not the event's, is a mismatch and settles nothing."""
    ledger = _ledger(("a", "quick-1"))
    _receive(ledger, "a", **wrong)  # type: ignore[arg-type]
    assert (ledger.mismatched, ledger.lost) == (1, [("a", "wh_one")])


def test_a_shared_webhook_id_is_counted() -> None:
    """Two events under one webhook-id are a mismatch: a receiver would take the second for a repeat."""
    ledger = _ledger(("a", "quick-1"), ("b", "quick-1"))
    _receive(ledger, "a", webhook_id="msg")
    _receive(ledger, "b", webhook_id="msg")
    assert ledger.mismatched == 1


def test_a_duplicate_is_counted() -> None:
    """Each request after the first accepted one counts, whatever it is answered."""
    ledger = _ledger(("a", "quick-1"))
    for status in (503, 200, 200, 503):
        _receive(ledger, "a", status=status)
    assert ledger.duplicates == {"msg-a-wh_one": 2}


def test_the_oldest_is_what_is_waited_for_longest() -> None:
    """How long a tenant's kind waits is seen from its oldest acknowledged delivery that has not arrived."""
    ledger = _ledger(("a", "quick-1"))
    ledger.produce(["+", "b", "quick-1", "digest-b", "200"])
    ledger.produce(["=", "b", "210"])
    assert ledger.oldest(Kind.QUICK) == 110
    _receive(ledger, "a")
    assert (ledger.oldest(Kind.QUICK), ledger.oldest(Kind.FLAKY)) == (210, None)


def test_latency_is_of_the_quick_in_undisturbed_time() -> None:
    """From produced to received; what was produced outside the spans does not count."""
    ledger = _ledger(("a", "quick-1"), ("b", "flaky-0"))
    ledger.produce(["+", "c", "quick-1", "digest-c", "500"])
    ledger.produce(["=", "c", "510"])
    _receive(ledger, "a", at=125)
    _receive(ledger, "b", tenant="flaky-0", at=190)
    _receive(ledger, "c", at=900)
    assert ledger.latencies_ms([(50, 200)]) == [25]


def test_only_whole_lines_are_read(tmp_path: Path) -> None:
    """A line is read once, when it is whole."""
    path = tmp_path / "ledger"
    tail = Tail(path)
    assert tail.lines() == []
    path.write_bytes(b"a\tb\nc")
    assert tail.lines() == [["a", "b"]]
    with path.open("ab") as file:
        file.write(b"\td\n")
    assert tail.lines() == [["c", "d"]]
    assert tail.lines() == []


def _arrivals(*at_ms: int, status: int = 200) -> dict[str, list[Arrival]]:
    return {"msg": [Arrival("msg", "quick-1", "wh_one", "a", "quick-1", "digest", status, at) for at in at_ms]}


def test_a_request_without_an_attempt_before_a_kill_was_in_flight() -> None:
    """What was received shortly before a sender's death and never written down was in flight, and explains a repeat."""
    tries = {"msg": [Try(4_990, 20, 5_015)]}
    assert flight(_arrivals(900, 5_000), tries, {"msg": 1}, [End(1_000, 500)]) == Flight(1, 0, 0)


def test_a_repeat_whose_first_attempt_was_written_down_is_unexplained() -> None:
    """Both requests have their attempts, so nothing was in flight: the duplicate is ours."""
    tries = {"msg": [Try(890, 20, 915), Try(4_990, 20, 5_015)]}
    assert flight(_arrivals(900, 5_000), tries, {"msg": 1}, [End(1_000, 500)]) == Flight(0, 1, 0)


def test_a_request_without_an_attempt_far_from_any_end_is_unrecorded() -> None:
    """It is not in flight: no sender ended after it for longer than a request lasts."""
    assert flight(_arrivals(4_000), {}, {}, [End(3_000, 500), End(5_000, 500)]) == Flight(0, 0, 1)


def test_a_stop_hands_over_what_was_written_down_after_it() -> None:
    """A sender that was stopped writes its attempts when it goes on: at the stop they were in flight."""
    tries = {"msg": [Try(890, 15_000, 15_900), Try(13_000, 20, 13_030)]}
    found = flight(_arrivals(900, 13_010), tries, {"msg": 1}, [End(1_000, 500, lasting=False)])
    assert found == Flight(1, 0, 0)
    assert flight(_arrivals(900, 13_010), tries, {"msg": 1}, [End(1_000, 500)]) == Flight(0, 1, 0)


def _replaying(*acked: tuple[str, str, int]) -> Ledger:
    """One that knows these events, each acknowledged at its time; one replay was ordered at 100, another at 200."""
    ledger = Ledger(HOOKS)
    ledger.replays = {"rpl_1": 100, "rpl_2": 200}
    for event, tenant, at in acked:
        ledger.produce(["+", event, tenant, f"digest-{event}", str(at - 10)])
        ledger.produce(["=", event, str(at)])
    return ledger


@pytest.mark.replay
def test_what_a_replay_has_lost_is_counted() -> None:
    """Every webhook must get an event again that was acknowledged before the order; live ones are no substitute."""
    ledger = _replaying(("a", "quick-0", 90), ("b", "quick-1", 250))
    for webhook in HOOKS["quick-0"]:
        _receive(ledger, "a", tenant="quick-0", webhook=webhook)
    _receive(ledger, "b")
    assert (ledger.lost, ledger.not_replayed) == ([], [("a", "wh_one"), ("a", "wh_two")])
    _receive(ledger, "a", tenant="quick-0", replay="rpl_1")
    _receive(ledger, "a", tenant="quick-0", webhook="wh_two", replay="rpl_1", status=503)
    assert ledger.not_replayed == [("a", "wh_two")]
    _receive(ledger, "a", tenant="quick-0", webhook="wh_two", replay="rpl_1")
    assert (ledger.not_replayed, ledger.phantom, ledger.mismatched) == ([], 0, 0)


@pytest.mark.replay
def test_a_replay_is_no_substitute_for_what_is_live() -> None:
    """An event that came with a replay alone is lost, and is still waited for."""
    ledger = _replaying(("a", "quick-1", 90))
    _receive(ledger, "a", replay="rpl_1")
    assert (ledger.lost, ledger.not_replayed, ledger.received) == ([("a", "wh_one")], [], {})


@pytest.mark.replay
def test_an_event_at_the_edge_of_a_window_may_come_with_either() -> None:
    """Written before an order and acknowledged after it, it is in that window; not with a replay before that."""
    ledger = _replaying(("a", "quick-1", 110))
    _receive(ledger, "a", replay="rpl_1")
    assert ledger.not_replayed == []
    ledger = _replaying(("a", "quick-1", 210))
    assert ledger.not_replayed == []
    ledger = _replaying(("a", "quick-1", 90))
    _receive(ledger, "a", replay="rpl_2")
    assert ledger.not_replayed == [("a", "wh_one")]


@pytest.mark.replay
def test_a_replay_that_is_not_itself_is_counted() -> None:
    """One that nobody ordered is a phantom; another first webhook-id, or the live delivery's own, is a mismatch."""
    ledger = _replaying(("a", "quick-1", 90))
    _receive(ledger, "a")
    _receive(ledger, "a", replay="rpl_3")
    assert (ledger.phantom, ledger.mismatched) == (1, 0)
    _receive(ledger, "a", replay="rpl_1", first="another")
    assert ledger.mismatched == 1
    _receive(ledger, "a", replay="rpl_2", webhook_id="msg-a-wh_one")
    assert ledger.mismatched == 2
