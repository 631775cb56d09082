"""Dead letters on the command line, against a running API; a replayer stands by that is done at once."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import Any, cast

import pytest

from pipeline.flow.deadletter import Reason
from pipeline.flow.deliver import Delivery
from pipeline.flow.history import DeadSeen
from pipeline.flow.replay import Progress, Reached, State
from pipeline.kafka.topics import DELIVERIES, REPLAY_PROGRESS, REPLAYS
from pipeline.workers.dead import Undertaker
from pipeline.workers.recorder import Projection
from tests.api.logged import Logged
from tests.api.parts import NOW_MS, Parts
from tests.cli.conftest import Command

pytestmark = pytest.mark.replay

URL = "https://example.com/hook"
LATER = NOW_MS + 60_000
_numbers = itertools.count()


@dataclass
class Dead:
    """A webhook of tenant `acme`, the test's own, and its dead letters."""

    log: Logged

    def letter(self, reason: Reason = Reason.GONE) -> tuple[Delivery, str]:
        """A delivery that has ended in a letter; that one's id."""
        return asyncio.run(self._letter(reason))

    async def _letter(self, reason: Reason) -> tuple[Delivery, str]:
        parts = self.log.parts
        held = await self.log.delivery(await self.log.event(f"d/{next(_numbers)}"))
        record = parts.records.held[DELIVERIES][-1]
        assert record is not None
        out = Undertaker(parts.codec, lambda: LATER).bury(record, reason, "why", held)
        seen = Projection(parts.codec)(parts.records.put(out, LATER))
        assert isinstance(seen, DeadSeen)
        await self.log.write(seen)
        return held, seen.id


@pytest.fixture
def dead(api: Command, served: tuple[str, Parts]) -> Dead:
    api("tenants", "create", "acme", "--profile", "standard")
    made = api("webhooks", "create", "acme", "--url", URL, "--event", "order.*", "-o", "json").json
    return Dead(Logged(cast("Any", None), served[1], made["id"]))


@pytest.fixture
def replayer(served: tuple[str, Parts], monkeypatch: pytest.MonkeyPatch) -> None:
    """Is done with each order at once."""
    parts = served[1]
    write = parts.view.put

    def put(topic: str, key: str, value: bytes | None) -> None:
        write(topic, key, value)
        if topic == REPLAYS:
            window = parts.codec.decode_replay(value).window
            places = tuple(Reached(span.partition, span.end, span.end) for span in window)
            told = Progress(key, State.DONE, places, deliveries=1, time_ms=NOW_MS)
            write(REPLAY_PROGRESS, key, parts.codec.encode_replay_progress(told))

    monkeypatch.setattr(parts.view, "put", put)


def test_they_are_listed_counted_and_shown(api: Command, dead: Dead) -> None:
    """By the filters of the API; a long value is cut but in JSON."""
    held, gone = dead.letter()
    _, exhausted = dead.letter(Reason.EXHAUSTED)
    mine = ("dead-letters", "list", "--tenant", "acme", "--webhook", dead.log.webhook)
    assert {one["id"] for one in api(*mine, "-o", "json").json} == {gone, exhausted}
    assert [one["id"] for one in api(*mine, "--reason", "gone", "--state", "waiting", "-o", "json").json] == [gone]
    assert gone in api(*mine, "--type", "order.paid", "--from", f"@{LATER}").out
    counted = api(*mine, "--group-by", "reason", "-o", "json").json
    assert (counted["total"], {one["value"] for one in counted["groups"]}) == (2, {"gone", "exhausted"})
    assert "exhausted" in api(*mine, "--group-by", "reason").out
    shown = api("dead-letters", "show", gone, "-o", "json").json
    assert (shown["delivery"], shown["body"]) == (held.id, '{"body":1}')
    assert "why" in api("dead-letters", "show", gone).out
    assert api.refused("dead-letters", "show", "dl_none") == "There is no such letter."


def test_one_is_redriven_or_discarded(api: Command, dead: Dead) -> None:
    """At once, by its id."""
    held, letter = dead.letter()
    assert api("dead-letters", "redrive", letter, "-o", "json").json["deliveries"] == [held.id]
    assert "already" in api.refused("dead-letters", "redrive", letter)
    _, other = dead.letter()
    assert "redriven at once" in api.refused("dead-letters", "redrive", other, "--dry-run")
    assert api("dead-letters", "show", other, "-o", "json").json["state"] == "waiting"
    letters = [dead.letter()[1] for _ in range(2)]
    assert api("dead-letters", "discard", *letters).err.count("is discarded") == 2
    assert "discarded" in api.refused("dead-letters", "redrive", letters[0])


@pytest.mark.usefixtures("replayer")
def test_a_set_is_counted_first(api: Command, dead: Dead) -> None:
    """Without --execute nothing is ordered; with it the redrive is followed to its end, as a replay is."""
    dead.letter()
    some = ("dead-letters", "redrive", "--tenant", "acme", "--webhook", dead.log.webhook)
    for only in ((), ("--dry-run",), ("--dry-run", "--execute")):
        said = api(*some, *only, "-o", "json")
        assert (said.json["letters"], said.err) == (1, "nothing is sent: give --execute\n")
    none = api(*some, "--reason", "exhausted", "--execute", "-o", "json")
    assert (none.code, none.err) == (0, "no dead letter waits that fits\n")
    said = api(*some, "--rate", "20", "--execute", "-o", "json")
    assert (said.code, said.json["state"], said.json["source"]) == (0, "done", "dead_letters")
    assert said.json["webhooks"] == [dead.log.webhook]
    assert said.err.splitlines()[0] == "dead letters: 1, at 20/s at most"
    assert api("dead-letters", "redrive", "--all", "-o", "json").json["letters"] >= 1


def test_all_is_never_meant_by_leaving_out(api: Command, dead: Dead) -> None:
    """What is to be redriven has to be said, in one way."""
    _, letter = dead.letter()
    choose = "name a dead letter, or give filters, or --all for all that wait"
    assert api.refused("dead-letters", "redrive") == choose
    assert api.refused("dead-letters", "redrive", letter, "--all") == choose
    assert api.refused("dead-letters", "redrive", "--all", "--reason", "gone") == choose
    assert "--from 'noon': write -2h" in api.refused("dead-letters", "list", "--from", "noon")
    assert "tenant" in api.refused("dead-letters", "list", "--webhook", "wh_1")
