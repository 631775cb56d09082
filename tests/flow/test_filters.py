from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pipeline.flow import filters
from pipeline.flow.event import Event
from pipeline.flow.filters import MAX_RESULT, Content, Sight, Undecided, content, document, projected
from pipeline.flow.subscription import Auth, Subscription

EVENT = Event("e1", "acme", "invoice.paid", 1_762_338_600_250, '{"amount": 1.10, "tags": ["eu"]}', "u1", "s", "shop")
HOOK = Subscription("acme", "wh_1", "https://example.com/", ("*",), Auth("none"))


def of(**texts: str) -> Content:
    made = content(replace(HOOK, **texts))  # type: ignore[arg-type]
    assert made is not None
    return made


def test_an_expression_sees_the_whole_event() -> None:
    """Id, type, time, data, actor, subject and source, the time as RFC 3339 in UTC."""
    assert document(EVENT) == {
        "id": "e1",
        "type": "invoice.paid",
        "time": "2025-11-05T10:30:00.250Z",
        "data": {"amount": 1.1, "tags": ["eu"]},
        "actor": "u1",
        "subject": "s",
        "source": "shop",
    }


def test_a_webhook_without_either_has_no_content() -> None:
    """So its events are not looked into."""
    assert content(HOOK) is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("data.amount > `1`", True),
        ("data.amount > `2`", False),
        ("contains(data.tags, 'eu') && actor == 'u1'", True),
        ("time >= '2025-11-05'", True),
        ("data.nothing", False),
        ("contains(data.nothing, 'x')", False),
    ],
)
def test_a_filter_lets_through_what_it_matches(text: str, wanted: bool) -> None:  # noqa: FBT001 - a row of the table
    """The event as it is, or none; an error is no match."""
    assert Sight(EVENT).through(of(filter=text)) == (EVENT if wanted else None)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("{sum: data.amount, by: actor}", '{"sum":1.1,"by":"u1"}'),
        ("data.tags[0]", '"eu"'),
        ("data.nothing", "null"),
        ("abs(data)", "null"),
        ("`NaN`", "null"),
        ("`[1e999]`", "[null]"),
        ("`" + "9" * 40 + "`", "null"),
    ],
)
def test_a_projection_becomes_the_data(text: str, data: str) -> None:
    """Of the event everything else stays; an error, and what is no JSON, is null."""
    assert Sight(EVENT).through(of(projection=text)) == replace(EVENT, data=data)


def test_a_filter_comes_before_the_projection() -> None:
    """What does not match is not projected."""
    assert Sight(EVENT).through(of(filter="`false`", projection="data")) is None
    assert Sight(EVENT).through(of(filter="data", projection="id")) == replace(EVENT, data='"e1"')


@pytest.mark.parametrize("field", ["filter", "projection"])
def test_what_cannot_be_used_decides_nothing(field: str) -> None:
    """Where a record's expression cannot be used, the event is neither wanted nor unwanted: the reason is told."""
    made = Sight(EVENT).through(of(**{field: "a ="}))
    assert isinstance(made, Undecided)
    assert made.reason.startswith(f"its {field}: This JMESPath expression cannot be used at character 3")


def test_the_event_is_parsed_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many webhooks look at it, and not at all while none does."""
    seen: list[Event] = []

    def parsed(event: Event) -> dict[str, Any]:
        seen.append(event)
        return document(event)

    monkeypatch.setattr(filters, "document", parsed)
    sight = Sight(EVENT)
    assert seen == []
    for number in range(5):
        sight.through(of(filter=f"data.amount > `{number}`", projection="data"))
    assert seen == [EVENT]


def test_all_filters_of_an_event_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenant with many costly filters does not hold up the others: those that are left over are undecided."""
    monkeypatch.setattr(filters, "MAX_STEPS", 100)
    sight, costly = Sight(EVENT, _left=100), of(filter="map(&@, `[1,2,3,4,5,6,7,8,9,10]`)")
    made = [sight.through(costly) for _ in range(20)]
    decided = [one for one in made if one is EVENT]
    assert 1 < len(decided) < 20
    assert all(isinstance(one, Undecided) and "more than 100 steps" in one.reason for one in made[len(decided) :])


@pytest.mark.parametrize(
    "text",
    [
        "[@,@]|" * 40 + "@",
        "[" + "data.long," * 60 + "data.long]",
        "{" + ",".join(f"{'k' * 900}{n}: id" for n in (1, 2)) + "}",
    ],
)
def test_a_result_is_bounded_before_it_is_written(text: str) -> None:
    """A few characters can name a gigabyte of JSON: it is not made."""
    large = replace(EVENT, data=json.dumps({"long": "x" * 20_000}))
    made = Sight(large).through(of(projection=text))
    assert isinstance(made, Event)
    assert made.data == "null" or len(made.data) < MAX_RESULT


def test_why_a_projection_is_null_is_told() -> None:
    """Null because it found nothing, and null because it failed, can be told apart."""
    sight = Sight(EVENT)
    made: Any = of(projection="abs(data)").projection
    nothing: Any = of(projection="data.nothing").projection
    doubled: Any = of(projection="[@,@]|" * 40 + "@").projection
    assert projected(sight.evaluate(nothing)) == ("null", None)
    assert projected(sight.evaluate(made)) == ("null", "abs() does not take object")
    assert projected(sight.evaluate(doubled)) == ("null", f"the result has more than {MAX_RESULT} bytes")
