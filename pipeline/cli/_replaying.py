"""What a replayer's jobs are made of. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from pipeline.api.log.asking import AskedLog
from pipeline.flow.history import Status
from pipeline.flow.replay import Outcome, Progress, Replay, Source, Span
from pipeline.kafka import topics
from pipeline.kafka.codec import Codec
from pipeline.kafka.endings import Endings
from pipeline.kafka.job import Job, Ready, at_once
from pipeline.kafka.jobs import Jobs
from pipeline.kafka.pacing import Paces
from pipeline.kafka.places import Places
from pipeline.kafka.processing import Learning
from pipeline.kafka.publisher import Publisher
from pipeline.kafka.reading import Parts, Run
from pipeline.kafka.scan import Scan
from pipeline.kafka.standing import Backlog, Ends, Recorded
from pipeline.kafka.subscribers import ViewSubscribers
from pipeline.kafka.table import Table
from pipeline.ports import Clock, Work
from pipeline.settings import Settings
from pipeline.store.past import FlowPast
from pipeline.workers.bringing import Bringing, Standing
from pipeline.workers.chosen import Chosen
from pipeline.workers.dead import Undertaker
from pipeline.workers.matching import Making, Matching
from pipeline.workers.redrive import Redrive
from pipeline.workers.replaying import Course, share_of
from pipeline.workers.router import Router

_OF = {Source.EVENTS: topics.EVENTS, Source.DEAD_LETTERS: topics.DEAD_LETTERS}
_JUDGED_BY = {
    Source.EVENTS: (topics.DELIVERIES, topics.ATTEMPTS),
    Source.DEAD_LETTERS: (topics.DELIVERIES, topics.ATTEMPTS, topics.DEAD_LETTERS, topics.AUDIT),
}
_LITTLE = {"queued.max.messages.kbytes": "4096", "fetch.message.max.bytes": "1048576"}
"""For readers of which there may be many, each at its own pace; what an operator has set wins."""


@dataclass(slots=True)
class Replayer:
    """`now_ms` is ours, `clock` the broker's (milliseconds).

    `log` is asked by those alone that want an outcome, `places` by those that bring dead letters back.
    """

    settings: Settings
    codec: Codec
    publisher: Publisher
    table: Table
    learn: Learning
    log: AskedLog
    places: Places
    now_ms: Clock
    clock: Callable[[], float]
    subscribers: ViewSubscribers = field(init=False)
    targets: ViewSubscribers = field(init=False)
    parts: Parts = field(init=False)
    jobs: Jobs = field(init=False)
    endings: Endings = field(init=False)
    backlog: Backlog = field(init=False)
    ends: Ends = field(init=False)

    def __post_init__(self) -> None:
        self.subscribers = ViewSubscribers(self.table, self.codec)
        self.targets = ViewSubscribers(self.table, self.codec, targets=True)
        self.jobs = Jobs(self.codec, self.table, self.publisher, self.learn.schemas_of, self.now_ms, self.job)
        self.endings = Endings(self.table, self.codec, self.publisher)
        self.ends = Ends(self.settings)
        self.backlog = Backlog(self.settings, self.ends, lambda: self.jobs.running > 0)
        paces = Paces(self.table, self.subscribers.states, self.codec, self.clock)
        self.parts = Parts(self.publisher, paces, lambda: self.backlog.full)

    def job(self, order: Replay, progress: Progress | None, work: Work) -> Job:
        """The job of an order, from where it is."""
        course = Course.of(order, progress, self._webhooks(order), self.now_ms())
        run = Run(course, work, self.parts, partial(self._opened, _OF[order.source]), partial(self._making, course))
        error = progress.error if progress else None
        return Job(run, self.codec, self.now_ms, self._ready(order), error, self._settled(order))

    def _webhooks(self, order: Replay) -> int:
        every = self.table.keys(topics.SUBSCRIPTIONS, order.tenant)
        return len(order.webhooks) or sum(1 for _ in every)

    def _opened(self, topic: str, spans: Sequence[Span]) -> Scan:
        return Scan(replace(self.settings, kafka={**_LITTLE, **self.settings.kafka}), topic, spans)

    def _ready(self, order: Replay) -> Ready:
        if order.source is Source.EVENTS and order.outcome is Outcome.ALL:
            return at_once
        return Recorded(self.settings, self.ends, _JUDGED_BY[order.source])

    def _settled(self, order: Replay) -> Ready:
        """A redrive is over when the log shows what it has sent: so long nobody else brings its letters back."""
        if order.source is Source.EVENTS:
            return at_once
        return Recorded(self.settings, self.ends, (topics.DELIVERIES,))

    def _making(self, course: Course, shares: frozenset[int]) -> Making:
        order = course.order
        if order.source is Source.DEAD_LETTERS:
            return self._bringing(order)

        def paths(path: str) -> bool:
            return share_of(path, course.shares) in shares

        every = self.targets if order.target_url else self.subscribers
        chosen = Chosen(every, frozenset(order.webhooks) or None, paths)
        undertaker = Undertaker(self.codec, self.now_ms)
        router = Router(self.codec, chosen, undertaker, topics.DELIVERIES_REPLAY, order.id)
        return Matching(order, self.codec, router, self.learn.schemas_of, partial(self._outcomes, order.id))

    def _bringing(self, order: Replay) -> Making:
        past, to = FlowPast(self.places, self.codec, self.log), topics.DELIVERIES_REPLAY

        def closed(path: str) -> str | None:
            gone = self.table.get(topics.SUBSCRIPTIONS, path) is None
            return "its webhook is gone" if gone else self.parts.paces.unusable(path)

        redrive = Redrive(self.codec, self.subscribers, past, self.now_ms, to, closed, order.id)
        return Bringing(order, self.codec, redrive, self.learn.schemas_of, self._standing)

    async def _standing(self, letters: Sequence[str]) -> Standing:
        found = await self.log.ask(lambda log: log.dead_letters(letters))
        return {letter: (row.seen, row.state) for letter, row in found.items()}

    async def _outcomes(
        self, replay: str, tenant: str, events: Collection[str]
    ) -> Iterable[tuple[str, str, Collection[Status]]]:
        return await self.log.ask(lambda log: log.outcomes(tenant, list(events), replay))
