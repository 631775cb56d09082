"""The demo's count: what was sent, what became of it, and what is still open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.cli._demo_scene import Part
from pipeline.flow.deadletter import DeadLetter
from pipeline.flow.deliver import Attempt, Dead, Done, Retry
from pipeline.flow.event import Event

Accepted = Callable[[Part], frozenset[str]]
"""The webhook-ids that a part's receiver has verified and acknowledged."""

Place = tuple[str, str, str]
"""Tenant, webhook, event."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Events acknowledged by the broker; deliveries delivered, and with more than one attempt; dead letters.

    `verified` are the distinct webhook-ids that a receiver accepted after checking its product's rule.
    """

    events: int = 0
    delivered: int = 0
    verified: int = 0
    retried: int = 0
    dead: int = 0

    def __add__(self, other: Totals) -> Totals:
        pairs = zip(asdict(self).values(), asdict(other).values(), strict=True)
        return Totals(*(one + another for one, another in pairs))


@dataclass(slots=True)
class _Course:
    """A delivery as its attempts tell it."""

    type: str = ""
    delivery: str = ""
    attempts: int = 0
    latest: Attempt | None = None
    delivered: bool = False
    expected: bool = False


@dataclass(slots=True)
class Score:
    """Counts per product. Fed with what was acknowledged, and with what Kafka shows of it."""

    parts: Sequence[Part]
    accepted: Accepted
    _events: dict[str, set[str]] = field(default_factory=dict)
    _courses: dict[Place, _Course] = field(default_factory=dict)
    _letters: dict[str, set[str]] = field(default_factory=dict)

    def sent(self, tenant: str, event_id: str, event_type: str) -> None:
        """An event was acknowledged: each webhook that wants it is to get it."""
        self._events.setdefault(tenant, set()).add(event_id)
        for part in self.parts:
            if part.tenant == tenant and part.wants(event_type):
                course = self._courses.setdefault((tenant, part.webhook, event_id), _Course())
                course.type, course.expected = event_type, True

    def saw(self, record: Event | Attempt | DeadLetter) -> None:
        """Kafka shows a record; those of other tenants do not count."""
        match record:
            case Event():
                self._events.setdefault(record.tenant, set()).add(record.id)
            case Attempt():
                self._attempted(record)
            case DeadLetter():
                self._letters.setdefault(_tenant(record), set()).add(record.id)

    def totals(self) -> dict[str, Totals]:
        """By the product's name."""
        found = {part.profile.name: Totals() for part in self.parts}
        for tenant, name in {part.tenant: part.profile.name for part in self.parts}.items():
            found[name] += self._of_tenant(tenant)
        for part in self.parts:
            found[part.profile.name] += Totals(verified=len(self.accepted(part)))
        return found

    def waiting(self) -> dict[str, int]:
        """How many deliveries of each product have not ended."""
        counts = {part.profile.name: 0 for part in self.parts}
        for part, course in self._known():
            counts[part.profile.name] += _unended(course)
        return counts

    def open(self) -> list[str]:
        """What is not as it should be, a line each; empty when all is settled."""
        return [*self._missing(), *self._unaccepted(), *self._unburied()]

    def _attempted(self, attempt: Attempt) -> None:
        course = self._courses.setdefault((attempt.tenant, attempt.webhook, attempt.event), _Course(attempt.type))
        course.delivery, course.latest = attempt.delivery, attempt
        course.attempts = max(course.attempts, attempt.attempt)
        course.delivered |= isinstance(attempt.next, Done)

    def _of_tenant(self, tenant: str) -> Totals:
        courses = [course for place, course in self._courses.items() if place[0] == tenant]
        return Totals(
            events=len(self._events.get(tenant, ())),
            delivered=sum(course.delivered for course in courses),
            retried=sum(course.attempts > 1 for course in courses),
            dead=len(self._letters.get(tenant, ())),
        )

    def _known(self) -> Iterator[tuple[Part, _Course]]:
        parts = {(part.tenant, part.webhook): part for part in self.parts}
        return ((parts[place[:2]], course) for place, course in self._courses.items() if place[:2] in parts)

    def _missing(self) -> Iterator[str]:
        """Deliveries that have not ended, or not as their endpoint's answers demand."""
        for part, course in self._known():
            ended = isinstance(course.latest and course.latest.next, Dead) if part.gone else course.delivered
            if course.expected and not ended:
                yield f"{part.tenant}: {course.type}: {_state(course)}"

    def _unaccepted(self) -> Iterator[str]:
        """Where the receivers and the attempts tell different stories."""
        delivered: dict[Place, set[str]] = {}
        for (tenant, webhook, _event), course in self._courses.items():
            if course.delivered:
                delivered.setdefault((tenant, webhook, ""), set()).add(course.delivery)
        for part in self.parts:
            told, accepted = delivered.get((part.tenant, part.webhook, ""), set()), self.accepted(part)
            yield from (f"{part.tenant}: {one} counts as delivered, not as verified" for one in sorted(told - accepted))
            yield from (f"{part.tenant}: {one} is verified, not yet recorded" for one in sorted(accepted - told))

    def _unburied(self) -> Iterator[str]:
        """Deliveries that ended for good, without their dead letters."""
        for tenant in dict.fromkeys(part.tenant for part in self.parts):
            courses = (course for place, course in self._courses.items() if place[0] == tenant)
            ended = sum(isinstance(course.latest and course.latest.next, Dead) for course in courses)
            if missing := ended - len(self._letters.get(tenant, ())):
                yield f"{tenant}: {ended} deliveries ended for good, and {ended - missing} dead letters are there"


def as_json(totals: dict[str, Totals]) -> dict[str, Any]:
    """The figures as one object: all together, then by product."""
    whole = sum(totals.values(), Totals())
    return {**asdict(whole), "profiles": {name: asdict(one) for name, one in totals.items()}}


def _tenant(letter: DeadLetter) -> str:
    if letter.delivery:
        return letter.delivery.tenant
    return (letter.key or b"").decode(errors="replace").partition("/")[0]


def _unended(course: _Course) -> bool:
    return course.latest is None or (isinstance(course.latest.next, Retry) and not course.delivered)


def _state(course: _Course) -> str:
    attempt = course.latest
    if attempt is None:
        return "no attempt yet"
    answer = attempt.status_code or attempt.verdict.value
    match attempt.next:
        case Retry(wait_ms):
            return f"attempt {attempt.attempt} came to {answer}, the next one {wait_ms / 1000:g} s later"
        case Dead(reason):
            return f"ended as a dead letter ({reason}) after {answer}"
        case _:
            return f"ended as {attempt.verdict.value}"
