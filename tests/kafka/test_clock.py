from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from pipeline.kafka.clock import BrokerClock

BROKER_MS = 1_767_225_600_000


@dataclass
class World:
    """Our monotonic clock (seconds) and the broker's (milliseconds): the same time, from different beginnings."""

    monotonic_s: float = 100.0
    broker_ms: float = BROKER_MS
    drift: float = 0.0

    def __call__(self) -> float:
        """Our clock."""
        return self.monotonic_s

    def passes(self, milliseconds: float) -> None:
        """Time goes by on both."""
        self.monotonic_s += milliseconds / 1000 * (1 + self.drift)
        self.broker_ms += milliseconds


@given(
    st.lists(st.tuples(st.floats(0, 200_000), st.integers(0, 300_000)), min_size=1, max_size=30),
    st.floats(0, 1e6),
    st.floats(-0.0009, 0.0009),
)
def test_it_is_never_ahead_of_the_broker(sightings: list[tuple[float, int]], later: float, drift: float) -> None:
    """However old the records are that come to hand, and however fast our clock runs, it is never ahead."""
    world = World(drift=drift)
    clock = BrokerClock(world)
    for pause_ms, age_ms in sightings:
        world.passes(pause_ms)
        clock.saw(int(world.broker_ms) - age_ms)
        assert clock.now_ms() <= world.broker_ms + 1e-3
    world.passes(later)
    assert clock.now_ms() <= world.broker_ms + 1e-3


def test_it_is_as_near_as_the_freshest_record() -> None:
    """The record that came to hand soonest after its append decides; older ones take nothing back."""
    world = World()
    clock = BrokerClock(world)
    for age_ms in (900, 3, 40_000):
        clock.saw(int(world.broker_ms) - age_ms)
        world.passes(1_000)
    assert 3 <= round(world.broker_ms - clock.now_ms()) <= 3 + 2


def test_it_runs_on_between_sightings() -> None:
    """Time passes by our monotonic clock when nothing is seen."""
    world = World()
    clock = BrokerClock(world)
    clock.saw(BROKER_MS)
    world.passes(60_000)
    assert 60_000 * 0.999 <= round(clock.now_ms() - BROKER_MS) <= 60_000


def test_nothing_is_known_at_first() -> None:
    """Before the first record there is no time to tell."""
    clock = BrokerClock(World())
    assert not clock.known
    clock.saw(BROKER_MS)
    assert clock.known


def test_a_broker_that_was_set_back_is_followed() -> None:
    """A broker's clock that is set back an hour is believed after two minutes of records."""
    world = World()
    clock = BrokerClock(world)
    clock.saw(int(world.broker_ms))
    world.broker_ms -= 3_600_000
    for _ in range(130):
        world.passes(1_000)
        clock.saw(int(world.broker_ms))
    assert 0 <= round(world.broker_ms - clock.now_ms()) <= 1


def test_a_broker_that_was_set_forward_is_followed_at_once() -> None:
    """The first record with a later time shows that the broker's clock is there."""
    world = World()
    clock = BrokerClock(world)
    clock.saw(int(world.broker_ms))
    world.broker_ms += 3_600_000
    clock.saw(int(world.broker_ms))
    assert round(world.broker_ms - clock.now_ms()) == 0


def test_it_remembers_little() -> None:
    """However many records come, what is kept is bounded by the two minutes that count."""
    world = World()
    clock = BrokerClock(world)
    for number in range(20_000):
        world.passes(20)
        clock.saw(int(world.broker_ms) - number % 7)
    assert len(clock._best) < 10
