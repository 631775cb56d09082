"""Which replays are cancelled, as a view has them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.flow.replay import Ordered, Replay, Span
from pipeline.flow.rounds import FIRST, RANDOM_BYTES, fresh_round
from pipeline.kafka.replays import CancelledReplays
from pipeline.kafka.topics import REPLAYS
from tests.api.parts import MemoryView, offline_codec

pytestmark = pytest.mark.replay

AT_MS = 1_767_225_600_000
ORDER = Replay("rpl_1", "acme", Ordered.CANCELLED, (Span(0, 1, 2),), created_ms=AT_MS - 9, updated_ms=AT_MS)


def cancelled(order: Replay | None = ORDER) -> tuple[CancelledReplays, MemoryView]:
    """What a sender asks, and the view that it asks of."""
    codec, view = offline_codec(), MemoryView()
    if order is not None:
        view.put(REPLAYS, order.id, codec.encode_replay(order))
    return CancelledReplays(view, codec), view


def test_a_cancelled_replay_s_deliveries_are_stopped() -> None:
    """Those of the cancelled replay, and of no other."""
    stopped, _ = cancelled()
    assert stopped("rpl_1", FIRST)
    assert not stopped("rpl_2", FIRST)


@pytest.mark.parametrize("ordered", [Ordered.RUNNING, Ordered.PAUSED])
def test_others_go_on(ordered: Ordered) -> None:
    """A replay that runs is sent, and so is what a paused one has written."""
    stopped, _ = cancelled(replace(ORDER, ordered=ordered))
    assert not stopped("rpl_1", FIRST)


def test_a_later_redelivery_is_sent() -> None:
    """A round that was begun before the cancelling goes with it; who redelivers afterwards wants it sent."""
    stopped, _ = cancelled()
    assert stopped("rpl_1", fresh_round(AT_MS - 1, bytes(RANDOM_BYTES)))
    assert not stopped("rpl_1", fresh_round(AT_MS + 1, bytes(RANDOM_BYTES)))


def test_the_newest_order_counts() -> None:
    """An order that changes is looked at anew, and one that is forgotten stops nothing."""
    stopped, view = cancelled(replace(ORDER, ordered=Ordered.RUNNING))
    assert not stopped("rpl_1", FIRST)
    view.put(REPLAYS, "rpl_1", offline_codec().encode_replay(ORDER))
    assert stopped("rpl_1", FIRST)
    view.put(REPLAYS, "rpl_1", None)
    assert not stopped("rpl_1", FIRST)


def test_an_order_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many deliveries it has."""
    codec, view, asked = offline_codec(), MemoryView(), list[bytes]()
    view.put(REPLAYS, "rpl_1", codec.encode_replay(ORDER))

    def decode(_: object, value: bytes) -> Replay:
        asked.append(value)
        return ORDER

    monkeypatch.setattr(type(codec), "decode_replay", decode)
    stopped = CancelledReplays(view, codec)
    assert [stopped("rpl_1", FIRST) for _ in range(3)] == [True] * 3
    assert len(asked) == 1


def test_what_cannot_be_read_cancels_nothing() -> None:
    """A record that nobody can read stops no delivery and no sender."""
    stopped, view = cancelled(None)
    view.put(REPLAYS, "rpl_1", b"\x00\x00\x00\x00\xffbroken")
    assert not stopped("rpl_1", FIRST)
