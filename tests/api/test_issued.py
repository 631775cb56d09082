from __future__ import annotations

from pipeline.api.log.issued import Issued


def test_a_round_is_newer_until_the_log_shows_it() -> None:
    """What was given counts as under way exactly as long as the log shows an older round, or none."""
    issued = Issued()
    assert issued.newer("msg_1", "") is None
    issued.give("msg_1", "R1")
    assert issued.newer("msg_1", None) == "R1"
    assert issued.newer("msg_1", "") == "R1"
    assert issued.newer("msg_1", "R1") is None
    assert issued.newer("msg_1", "R2") is None


def test_what_was_not_sent_may_be_sent() -> None:
    """A round that is taken back is in nobody's way."""
    issued = Issued()
    issued.give("msg_1", "R1")
    issued.take_back("msg_1")
    issued.take_back("msg_2")
    assert issued.newer("msg_1", "") is None


def test_only_so_many_are_remembered() -> None:
    """The one that was given longest ago is forgotten first."""
    issued = Issued(most=2)
    for delivery in ("a", "b", "a", "c"):
        issued.give(delivery, "R")
    assert [one for one in "abc" if issued.newer(one, "")] == ["a", "c"]


async def test_one_at_a_time() -> None:
    """Whoever asks for the same name waits for the same lock."""
    issued = Issued()
    async with issued.hold("msg_1"):
        assert issued.hold("msg_1").locked()
        assert not issued.hold("msg_2").locked()
