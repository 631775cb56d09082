"""What has been cancelled, as a view has it."""

from __future__ import annotations

from pipeline.flow.cancels import Cancel
from pipeline.kafka.cancels import Cancels
from pipeline.kafka.topics import CANCELS
from tests.api.parts import MemoryView, offline_codec

CANCEL = Cancel("msg_1", "r1", "acme", "key", 7)


def _cancels(value: bytes | None = None) -> Cancels:
    codec, view = offline_codec(), MemoryView()
    view.put(CANCELS, "msg_1", codec.encode_cancel(CANCEL) if value is None else value)
    return Cancels(view, codec)


def test_one_round_is_cancelled() -> None:
    """A cancelling holds for its delivery and its round, and for nothing else."""
    cancels = _cancels()
    assert cancels("msg_1", "r1")
    assert not cancels("msg_1", "")
    assert not cancels("msg_2", "r1")


def test_they_can_be_looked_through() -> None:
    """All that are remembered are told, so that somebody can forget them."""
    cancels = _cancels()
    assert list(cancels.all()) == [CANCEL]
    assert cancels.of("msg_1") == CANCEL
    assert cancels.of("msg_2") is None


def test_what_cannot_be_read_cancels_nothing() -> None:
    """A record that nobody can read stops no delivery and no sender."""
    cancels = _cancels(b"\x00\x00\x00\x00\xffbroken")
    assert not cancels("msg_1", "r1")
    assert list(cancels.all()) == []
