from __future__ import annotations

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from pipeline.flow.health import EndpointState
from pipeline.flow.subscription import Auth, Subscription
from pipeline.kafka.codec import Codec
from pipeline.kafka.schemas import load
from pipeline.kafka.states import EndpointStates
from pipeline.kafka.topics import ENDPOINT_STATE
from pipeline.kafka.writers import parsed
from tests.api.parts import MemoryView
from tests.workers.parts import CODEC

WEBHOOK = Subscription("acme", "wh_1", "https://example.com/", ("*",), Auth("none"), generation=3)
WELL = EndpointState("acme", "wh_1", 3, failures=2, failing_since_ms=5, time_ms=6)
DISABLED = replace(WELL, disabled=True, reason="gone")
LATE = b"\x00\x00\x00\x01\x00"
"""The head of a schema that nobody has learned yet."""


@pytest.fixture
def view() -> MemoryView:
    return MemoryView()


@pytest.fixture
def states(view: MemoryView) -> EndpointStates:
    return EndpointStates(view, CODEC)


def put(view: MemoryView, state: EndpointState | bytes | None) -> None:
    value = CODEC.encode_endpoint_state(state) if isinstance(state, EndpointState) else state
    view.put(ENDPOINT_STATE, WEBHOOK.path, value)


def test_the_newest_state_is_told(view: MemoryView, states: EndpointStates) -> None:
    """What the senders wrote last is what is known; where they wrote nothing, nothing is."""
    assert states.of(WEBHOOK.path) is None
    put(view, WELL)
    put(view, DISABLED)
    assert states.of(WEBHOOK.path) == DISABLED
    put(view, None)
    assert states.of(WEBHOOK.path) is None


@pytest.mark.parametrize(("generation", "disabled"), [(2, False), (3, True), (4, True)])
def test_only_a_state_of_this_generation_disables(
    view: MemoryView, states: EndpointStates, generation: int, *, disabled: bool
) -> None:
    """A webhook that has been activated since, or points elsewhere, is not disabled by what was before."""
    put(view, replace(DISABLED, generation=generation))
    assert states.disable(WEBHOOK) is disabled
    put(view, replace(WELL, generation=generation))
    assert not states.disable(WEBHOOK)


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"junk", LATE + b"x", CODEC.encode_endpoint_state(DISABLED)[:9], CODEC.encode_subscription(WEBHOOK)),
        CODEC.encode_endpoint_state(replace(DISABLED, webhook="wh_2")),
    ],
)
def test_a_state_that_cannot_be_read_counts_as_none_and_is_told_once(
    view: MemoryView, states: EndpointStates, value: bytes
) -> None:
    """Such a record disables nobody; the log has it once however often it is met, the warning until it is mended."""
    with capture_logs() as logs:
        put(view, value)
        assert [states.of(WEBHOOK.path), states.disable(WEBHOOK)] == [None, False]
        put(view, value)
        assert states.of(WEBHOOK.path) is None
    assert [line["key"] for line in logs] == ["acme/wh_1"]
    assert "1 endpoint states cannot be read" in (states.warning or "")
    put(view, DISABLED)
    assert states.warning is None
    assert states.disable(WEBHOOK)


def test_a_schema_that_comes_late(view: MemoryView) -> None:
    """A state of another version's sender is read as soon as its schema is known, and is known to be late till then."""
    codec = Codec(CODEC.client, CODEC.heads)
    states = EndpointStates(view, codec)
    put(view, LATE + CODEC.encode_endpoint_state(DISABLED)[5:])
    assert (states.disable(WEBHOOK), states.late(WEBHOOK.path)) == (False, True)
    writer = parsed([load("endpoint_state")])
    assert writer is not None
    codec.writers[256] = writer
    assert (states.disable(WEBHOOK), states.late(WEBHOOK.path), states.warning) == (True, False, None)


def test_most_changes_switch_nothing(view: MemoryView, states: EndpointStates) -> None:
    """Who keeps webhooks ready hears of the changes that disable, enable or disable another generation, no others."""
    steps = [
        (WELL, False),
        (replace(WELL, failures=9, reserved_until_ms=99), False),
        (DISABLED, True),
        (replace(DISABLED, time_ms=99), False),
        (replace(DISABLED, generation=4), True),
        (replace(WELL, generation=4), True),
        (DISABLED, True),
        (None, True),
        (LATE, True),
        (LATE, True),
    ]
    found = []
    for state, _ in steps:
        put(view, state)
        found.append(states.switched(WEBHOOK.path))
    assert found == [switched for _, switched in steps]
