"""Replays on the command line, against a running API; a replayer stands by that is done at once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from pipeline.cli import replays
from pipeline.cli.webhooks import SECRET_VARIABLE
from pipeline.flow.event import Event
from pipeline.flow.history import EventSeen
from pipeline.flow.replay import Ordered, Progress, Reached, Replay, State
from pipeline.kafka.topics import EVENTS, REPLAY_PROGRESS, REPLAYS
from pipeline.ports import Outgoing
from tests.api.parts import NOW_MS, Parts
from tests.cli.conftest import Command

pytestmark = pytest.mark.replay

URL = "https://example.com/hook"
NOWHERE = "https://example.org/new"
BEFORE = ("--from", f"@{NOW_MS - 1}")
_numbers = itertools.count()

Answer = Callable[[Replay], Progress | None]
"""What a replayer says to an order."""


@pytest.fixture
def tenant(api: Command, served: tuple[str, Parts]) -> str:
    """A tenant of the test's own that was made before all of its events."""
    served[1].clock[0] = NOW_MS - 3_600_000
    name = f"r-{next(_numbers)}"
    api("tenants", "create", name, "--profile", "standard")
    served[1].clock[0] = NOW_MS
    return name


@pytest.fixture
def webhook(api: Command, tenant: str) -> str:
    """Its webhook."""
    made = api("webhooks", "create", tenant, "--url", URL, "--event", "order.*", "-o", "json").json
    return str(made["id"])


@pytest.fixture
def events(served: tuple[str, Parts], tenant: str, webhook: str) -> tuple[str, str]:
    """Two events that it wants, one that it does not want; the tenant and the webhook."""
    for type_ in ("order.paid", "order.shipped", "user.created"):
        happened(served[1], Event(f"e-{next(_numbers)}", tenant, type_, NOW_MS, "{}"))
    return tenant, webhook


def happened(parts: Parts, event: Event) -> None:
    """It is on Kafka and in the log."""
    record = parts.records.put(Outgoing(EVENTS, event.tenant.encode(), parts.codec.encode_event(event)), NOW_MS)
    seen = EventSeen(event.tenant, event.id, event.type, NOW_MS, record.partition, record.offset, NOW_MS)
    asyncio.run(parts.deps.log.ask(lambda log: log.write([seen])))


@pytest.fixture
def replayer(served: tuple[str, Parts], monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], None]:
    """Answers each order at once, as it is told to."""
    parts = served[1]
    write = parts.view.put

    def stand_by(answer: Answer) -> None:
        def put(topic: str, key: str, value: bytes | None) -> None:
            write(topic, key, value)
            if topic == REPLAYS and (told := answer(parts.codec.decode_replay(value))):
                write(REPLAY_PROGRESS, key, parts.codec.encode_replay_progress(told))

        monkeypatch.setattr(parts.view, "put", put)

    return stand_by


def reached(order: Replay, state: State, **more: Any) -> Progress:
    """All of it."""
    done = tuple(Reached(span.partition, span.end, span.end) for span in order.window)
    return Progress(order.id, state, done, events=3, deliveries=2, time_ms=NOW_MS, **more)


@pytest.mark.usefixtures("events")
def test_a_plan_counts(api: Command, tenant: str, webhook: str) -> None:
    """By type and webhook, for programs all of it, for people with the window as `--offsets` takes it."""
    asked = ("replays", "plan", "--tenant", tenant, *BEFORE)
    plan = api(*asked, "-o", "json").json
    assert (plan["events"], plan["deliveries"], plan["by_webhook"]) == (2, 2, {f"{tenant}/{webhook}": 2})
    assert api(*asked, "--type", "order.p*", "-o", "json").json["by_type"] == {"order.paid": 1}
    (span,) = plan["window"]
    offsets = f"0:{span['from']}-{span['to']}"
    said = api(*asked)
    assert offsets in said.out
    assert said.err == ""
    by_offsets = api("replays", "plan", "--tenant", tenant, "--offsets", offsets, "--webhook", webhook, "-o", "json")
    assert by_offsets.json["deliveries"] == 2
    assert api("replays", "list", "--tenant", tenant, "-o", "json").json == []


@pytest.mark.usefixtures("events")
def test_a_start_plans_first(api: Command, tenant: str, replayer: Callable[[Answer], None]) -> None:
    """Without --execute nothing is written; with it the plan is said and the replay followed to its end."""
    replayer(lambda order: reached(order, State.DONE))
    start = ("replays", "start", "--tenant", tenant, *BEFORE)
    planned = api(*start, "-o", "json")
    assert planned.json["deliveries"] == 2
    assert planned.err == "nothing is sent: give --execute\n"
    assert api("replays", "list", "--tenant", tenant, "-o", "json").json == []
    nothing = api(*start, "--type", "order.none", "--execute")
    assert (nothing.code, nothing.err) == (0, "there is nothing to send\n")
    said = api(*start, "--rate", "50", "--execute", "-o", "json")
    assert (said.code, said.json["state"], said.json["rate"]) == (0, "done", 50)
    assert said.err.splitlines()[0] == "2 deliveries of 2 events, at 50/s at most"
    assert said.err.splitlines()[-1].endswith("(100 %), 2 deliveries")
    (listed,) = api("replays", "list", "--tenant", tenant, "-o", "json").json
    assert listed["id"] == said.json["id"]
    assert "100 %" in api("replays", "list", "--tenant", tenant).out
    shown = api("replays", "show", listed["id"])
    assert "100 %" in shown.out
    assert "partitions" not in shown.out
    assert api("replays", "show", listed["id"], "--follow", "-o", "json").json["state"] == "done"


def test_what_was_planned_is_what_is_started(
    api: Command,
    events: tuple[str, str],
    replayer: Callable[[Answer], None],
    served: tuple[str, Parts],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An event that comes after the plan has been made is not sent, although no end was given."""
    replayer(lambda order: reached(order, State.DONE))
    plan, windows = replays._plan, list[Any]()

    def planned(rest: Any, body: dict[str, Any]) -> dict[str, Any]:
        made = plan(rest, body)
        windows.append(made["window"])
        happened(served[1], Event(f"e-{next(_numbers)}", events[0], "order.paid", NOW_MS, "{}"))
        return made

    monkeypatch.setattr(replays, "_plan", planned)
    said = api("replays", "start", "--tenant", events[0], *BEFORE, "--type", "order.*", "--execute", "-o", "json").json
    assert (said["window"], said["types"]) == (windows[0], ["order.*"])


@pytest.mark.parametrize(("state", "code"), [(State.FAILED, 1), (State.PAUSED, 3), (State.CANCELLED, 3)])
@pytest.mark.usefixtures("events")
def test_another_end_has_another_exit_code(
    api: Command, tenant: str, replayer: Callable[[Answer], None], state: State, code: int
) -> None:
    """1 and why, if it fails; 3 if somebody pauses or cancels it."""
    replayer(lambda order: reached(order, state, error="it broke" if state is State.FAILED else None))
    started = api("replays", "start", "--tenant", tenant, *BEFORE, "--detach", "--execute", "-o", "json")
    assert started.code == 0
    ident = started.json["id"]
    if state is State.PAUSED:
        api("replays", "pause", ident)
    said = api("replays", "show", ident, "--follow", "-o", "json")
    assert (said.code, said.json["state"]) == (code, state.value)
    assert ("has failed: it broke" in said.err) is (code == 1)


@pytest.mark.usefixtures("events")
def test_it_is_switched_by_its_id(api: Command, tenant: str) -> None:
    """Paused, resumed and cancelled; what cannot be done is one line and exit code 2."""
    said = api("replays", "start", "--tenant", tenant, *BEFORE, "--execute", "--detach", "-o", "json")
    ident = said.json["id"]
    assert f"pipeline replays show {ident} --follow`" in said.err
    assert api("replays", "pause", ident, "-o", "json").json["ordered"] == Ordered.PAUSED
    assert api("replays", "resume", ident, "-o", "json").json["ordered"] == Ordered.RUNNING
    assert "cancelled" in api("replays", "cancel", ident).out
    assert "cancelled" in api.refused("replays", "resume", ident)
    assert api.refused("replays", "show", "rpl_none") == "There is no such replay."


@pytest.mark.usefixtures("events")
def test_a_url_of_its_own(api: Command, tenant: str, replayer: Callable[[Answer], None]) -> None:
    """What is generated for it is told once, at its start; a secret may be chosen, too."""
    replayer(lambda order: reached(order, State.DONE))
    start = ("replays", "start", "--tenant", tenant, *BEFORE, "--url", NOWHERE, "--execute", "-o", "json")
    said = api(*start)
    assert said.json["target"]["url"] == NOWHERE
    (told,) = [line for line in said.err.splitlines() if "not shown again" in line]
    secret = told.split()[3].rstrip(":")
    assert secret.startswith("whsec_")
    chosen = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    again = api(*start, "--secret", chosen)
    assert again.json["target"]["auth"]["secret"] == "whsec_…LaSw"
    assert "not shown again" not in again.err


@pytest.mark.usefixtures("events")
def test_refusals(api: Command, tenant: str, webhook: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is one line that says what would work; what the command line can see by itself is not asked."""
    plan = ("replays", "plan", "--tenant", tenant)
    assert "from: Say since when" in api.refused(*plan)
    assert "--from 'noon': write -2h" in api.refused(*plan, "--from", "noon")
    assert "--offsets '0-5': write PARTITION:FROM-TO" in api.refused(*plan, "--offsets", "0-5")
    assert "are for --url" in api.refused(*plan, *BEFORE, "--secret", "whsec_x")
    assert "pipeline webhooks list" in api.refused(*plan, *BEFORE, "--webhook", "wh_none")
    assert "rate" in api.refused(*plan, *BEFORE, "--rate", "100000")
    monkeypatch.setenv(SECRET_VARIABLE, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert api(*plan, *BEFORE, "--webhook", webhook).code == 0, "the variable alone is no target"
    api("webhooks", "deactivate", tenant, webhook)
    assert f"pipeline webhooks activate {tenant} {webhook}" in api.refused(*plan, *BEFORE, "--webhook", webhook)


def test_a_recovery_is_followed(api: Command, events: tuple[str, str], replayer: Callable[[Answer], None]) -> None:
    """A dry run counts; else it is a replay of what the webhook has missed, and followed like one."""
    replayer(lambda order: reached(order, State.DONE))
    recover = ("webhooks", "recover", *events, "--since", f"@{NOW_MS - 1}")
    assert api(*recover, "--dry-run", "-o", "json").json["unrouted"]["count"] == 2
    said = api(*recover, "-o", "json")
    assert (said.json["state"], said.json["outcome"], said.json["webhooks"]) == ("done", "missed", [events[1]])
    assert "2 deliveries" in said.err
    assert "--since 'soon'" in api.refused("webhooks", "recover", *events, "--since", "soon")


def test_a_recovery_is_counted_with_patience(
    api: Command, events: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dry run reads all events since then before it answers: it is waited for longer than other requests are."""
    waited: list[float] = []
    request = httpx.Client.request

    def seen(self: httpx.Client, method: str, url: str, **how: Any) -> httpx.Response:
        waited.append(how["timeout"])
        return request(self, method, url, **how)

    monkeypatch.setattr(httpx.Client, "request", seen)
    assert api("webhooks", "recover", *events, "--since", f"@{NOW_MS - 1}", "--dry-run").code == 0
    assert waited == [600]
