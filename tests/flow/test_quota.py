from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.flow.quota import Bucket, taken


def test_a_bucket_is_full_at_first() -> None:
    """As much as it holds can be taken at once, and then nothing."""
    bucket, lacks_s = taken(None, 100, 0.0, rate=10, holds=100)
    assert (bucket, lacks_s) == (Bucket(0, 0.0), 0)
    assert taken(bucket, 1, 0.0, rate=10, holds=100)[1] == 0.1


def test_it_fills_with_time_and_not_beyond() -> None:
    """It gains its rate each second, up to what it holds."""
    empty = Bucket(0, 5.0)
    assert taken(empty, 20, 7.0, rate=10, holds=100) == (Bucket(0, 7.0), 0)
    assert taken(empty, 100, 1e9, rate=10, holds=100) == (Bucket(0, 1e9), 0)
    assert taken(empty, 100, 6.0, rate=10, holds=100)[1] == 9.0


def test_what_is_too_much_takes_nothing() -> None:
    """All or none: whoever asks for too much leaves what is there to those who ask for less."""
    bucket, lacks_s = taken(Bucket(5, 0.0), 6, 0.0, rate=1, holds=10)
    assert (bucket, lacks_s) == (Bucket(5, 0.0), 1)
    assert taken(bucket, 5, 0.0, rate=1, holds=10) == (Bucket(0, 0.0), 0)


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 10)), max_size=60), st.integers(1, 100))
def test_nobody_gets_more_than_the_rate(asked: list[tuple[int, float]], rate: int) -> None:
    """Whatever is asked for when, what is given is at most what the bucket holds and what it has gained since."""
    bucket, now, given_ = None, 0.0, 0
    for count, pause in asked:
        now += pause
        bucket, lacks_s = taken(bucket, count, now, rate=rate, holds=50)
        given_ += 0 if lacks_s else count
    assert given_ <= 50 + rate * now + 1e-6


@given(st.integers(1, 50), st.integers(0, 50), st.integers(1, 100))
def test_the_wait_is_enough(count: int, left: int, rate: int) -> None:
    """Who waits as long as the bucket lacks is let in."""
    bucket, lacks_s = taken(Bucket(left, 0.0), count, 0.0, rate=rate, holds=50)
    assert not lacks_s or taken(bucket, count, lacks_s + 1e-6, rate=rate, holds=50)[1] == 0
