from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.flow.event import EVENT_ID_BYTES, Event, fault

GOOD = Event("evt-1", "acme", "order.paid", 0, "{}")


@pytest.mark.parametrize("tenant", ["a", "A_b-9", "x" * 64])
def test_a_good_event_has_no_fault(tenant: str) -> None:
    """Letters, digits, _ and -, up to 64 of them, make a tenant's id."""
    assert fault(replace(GOOD, tenant=tenant)) is None


@given(st.text(min_size=1, max_size=EVENT_ID_BYTES).filter(lambda text: len(text.encode()) <= EVENT_ID_BYTES))
def test_an_event_id_may_be_any_text(event_id: str) -> None:
    """Any text of up to 128 bytes is an event's id."""
    assert fault(replace(GOOD, id=event_id)) is None


@pytest.mark.parametrize("event_id", ["", "x" * 129, "é" * 65])
def test_an_event_id_has_a_length_in_bytes(event_id: str) -> None:
    """An id that is empty or longer than 128 bytes is named as the fault."""
    assert fault(replace(GOOD, id=event_id)) == "id must be a text of 1 to 128 bytes"


@pytest.mark.parametrize("tenant", ["", "x" * 65, "a/b", "a b", "ä", "a\n", "*"])
def test_a_tenant_that_can_be_no_key_is_a_fault(tenant: str) -> None:
    """A tenant's id that would not fit into a key is named as the fault."""
    assert fault(replace(GOOD, tenant=tenant)) == "tenant must be 1 to 64 letters, digits, _ or -"


def test_an_empty_type_is_a_fault() -> None:
    """An event without a type is refused whatever its product."""
    assert fault(replace(GOOD, type="")) == "type must be a text of 1 to 1024 characters"
    assert fault(replace(GOOD, type="x" * 1025)) == "type must be a text of 1 to 1024 characters"
