from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.flow.deliver import delivery_id
from pipeline.flow.event import Event

WORDS = st.text("ab-:0123456789/|\0é", max_size=6)
Parts = tuple[str, str, str | None, str, str, bytes, str | None]
PARTS = st.tuples(WORDS, WORDS, st.none() | WORDS, WORDS, WORDS, st.binary(max_size=4), st.none() | WORDS)


def number(parts: Parts) -> str:
    tenant, webhook, source, event_id, event_type, digest, replay = parts
    return delivery_id(Event(event_id, tenant, event_type, 0, "{}", source=source), webhook, digest, replay)


@given(PARTS)
def test_the_id_has_the_contract_s_shape(parts: Parts) -> None:
    """A delivery's id is `msg_` and 26 characters of base32."""
    assert re.fullmatch(r"msg_[A-Z2-7]{26}", number(parts))


@given(PARTS, st.integers(), st.text(), st.none() | st.text())
def test_a_repeat_has_the_same_id(parts: Parts, time_ms: int, data: str, other: str | None) -> None:
    """The same event said again, at another time and by another actor, is the same delivery."""
    tenant, webhook, source, event_id, event_type, digest, replay = parts
    repeat = Event(event_id, tenant, event_type, time_ms, data, actor=other, subject=other, source=source)
    assert delivery_id(repeat, webhook, digest, replay) == number(parts)


@given(PARTS, st.integers(0, 6), st.data())
def test_another_part_makes_another_id(parts: Parts, place: int, data: st.DataObject) -> None:
    """Tenant, webhook, source, event id, type, digest and replay: if any differs, so does the id."""
    kinds: tuple[st.SearchStrategy[Any], ...] = (WORDS, WORDS, st.none() | WORDS, WORDS, WORDS, st.binary(), WORDS)
    value = data.draw(kinds[place])
    assume(value != parts[place])
    changed: Any = (*parts[:place], value, *parts[place + 1 :])
    assert number(changed) != number(parts)


@given(PARTS, PARTS)
def test_two_lists_of_parts_never_read_alike(one: Parts, other: Parts) -> None:
    """However the same characters are spread over the parts, two different lists have two ids."""
    assert (number(one) == number(other)) == (one == other)


@given(st.text("ab", max_size=8), st.integers(0, 8), st.integers(0, 8))
def test_a_cut_in_another_place_is_another_list(text: str, cut: int, other: int) -> None:
    """`ab` and `c` is not `a` and `bc`, wherever two parts meet."""
    assume(min(cut, len(text)) != min(other, len(text)))
    first: Parts = (text[:cut], text[cut:], None, "e", "t", b"", None)
    assert number(first) != number((text[:other], text[other:], None, "e", "t", b"", None))


def test_an_empty_source_is_not_no_source() -> None:
    """A part that is not there differs from one that is empty."""
    event = Event("e", "t", "x", 0, "{}")
    digest = hashlib.sha256(b"{}").digest()
    assert delivery_id(event, "w", digest) != delivery_id(replace(event, source=""), "w", digest)
    assert delivery_id(event, "w", digest) != delivery_id(event, "w", digest, "")


def test_the_id_stays_the_same_over_versions() -> None:
    """The id of a known event is this one for ever: repeats are recognised across releases."""
    digest = hashlib.sha256(b'{"a":1}').digest()
    event = Event("evt-1", "acme", "order.paid", 5, '{"a":1}', source="shop")
    whole = b"4:acme4:wh_14:shop5:evt-110:order.paid32:" + digest + b"-"
    assert delivery_id(event, "wh_1", digest) == "msg_" + _base32(hashlib.sha256(whole).digest())
    assert delivery_id(event, "wh_1", digest) == "msg_MTPQBEZRJLOSFTK6PDIA6SNOL4"


def _base32(digest: bytes) -> str:
    bits = int.from_bytes(digest[:16], "big") << 2
    return "".join("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[bits >> shift & 31] for shift in range(125, -1, -5))
