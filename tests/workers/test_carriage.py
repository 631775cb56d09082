from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Undecodable
from pipeline.flow.deliver import Carriage
from pipeline.workers.carriage import FIRST, of_headers, to_headers

HOPS = st.integers(0, 10**9 - 1)


@given(
    st.builds(
        Carriage,
        st.text(max_size=30),
        HOPS,
        st.integers(0, 10**10 - 1),
        st.integers(0, 10**14),
        st.none() | HOPS,
        st.none() | st.text(max_size=30),
    )
)
def test_what_is_written_is_read(carriage: Carriage) -> None:
    """Round, hop, wait, slot, the hop it stands for and the order come back from the headers as they went in."""
    assert of_headers(to_headers(carriage)) == carriage


def test_the_names_are_the_contract_s() -> None:
    """`round`, `hop`, `wait-ms` and `slot-ms`, numbers in decimal; a carrier has `stands-for`, a redrive's `order`."""
    written = (("round", b"r1"), ("hop", b"2"), ("wait-ms", b"5000"), ("slot-ms", b"1767225600000"))
    assert to_headers(Carriage("r1", 2, 5_000, 1_767_225_600_000)) == written
    assert to_headers(Carriage("r1", 2, 5_000, 1_767_225_600_000, 1)) == (*written, ("stands-for", b"1"))
    assert to_headers(Carriage("r1", 2, 5_000, 1_767_225_600_000, order="rpl_1")) == (*written, ("order", b"rpl_1"))


def test_a_first_writing() -> None:
    """A router's delivery has no round, hop 0, and nothing to wait for."""
    assert to_headers(Carriage()) == FIRST
    assert of_headers(FIRST) == of_headers(()) == Carriage()


def test_headers_of_others_are_ignored() -> None:
    """Headers that are not ours, and those that are missing, do not matter."""
    assert of_headers((("trace", b"\xff"), ("hop", b"4"))) == Carriage(hop=4)


@pytest.mark.parametrize(
    "header",
    [
        ("hop", b""),
        ("hop", b"one"),
        ("hop", b"1.5"),
        ("hop", b"-1"),
        ("hop", b"1_0"),
        ("hop", b" 1"),
        ("hop", b"9" * 10),
        ("wait-ms", b"\xff"),
        ("wait-ms", b"-5"),
        ("wait-ms", b"9" * 5_000),
        ("slot-ms", b"x"),
        ("stands-for", b""),
        ("stands-for", b"-1"),
        ("slot-ms", b"9" * 20),
        ("round", b"\xff"),
        ("round", b"x" * 129),
        ("order", b"\xff"),
        ("order", b"x" * 129),
        ("wait-ms", b"9" * 11),
    ],
)
def test_a_header_that_cannot_be_read_is_poison(header: tuple[str, bytes]) -> None:
    """A number that is none, or that no record of ours could hold, is told as undecodable, not raised as a fault."""
    with pytest.raises(Undecodable, match="header") as caught:
        of_headers((header,))
    assert caught.value.reason == "framing"
