"""The running platform, as `pipeline up` starts it on the run's broker, and receivers that it may reach."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import AdminClient

from pipeline.http.receiver import Receiver
from pipeline.kafka import topics
from pipeline.kafka.lag import ends_of, left
from pipeline.settings import Settings
from tests.cli.started import fields, started
from tests.e2e.flow import receiving, running_loop
from tests.live_cluster import LiveCluster
from tests.prepared import ADMIN_KEY

LADDER = "retry-5s=60ms retry-60s=30ms"
"""Every wait of a product's rule is at most eight of the longer tier: half a second."""
_WITHIN_S = 60.0
_LOOK_S = 0.05


@dataclass(frozen=True)
class System:
    """The running platform, and receivers over HTTP and HTTPS that it may reach."""

    url: str
    key: str
    plain: Receiver
    tls: Receiver
    loop: asyncio.AbstractEventLoop
    kafka: AdminClient

    def routed(self) -> None:
        """Wait until the router has finished every event that there is."""
        counts = topics.existing(self.kafka)
        ends = ends_of(self.kafka, [(topics.EVENTS, number) for number in range(counts[topics.EVENTS])])
        eventually(lambda: not left(self.kafka, "pipeline-router", ends))

    def until(self, receiver: Receiver, condition: Callable[[], bool]) -> None:
        """Wait until requests make the condition true."""
        wait = asyncio.wait_for(receiver.until(condition), _WITHIN_S)
        asyncio.run_coroutine_threadsafe(wait, self.loop).result()


@contextmanager
def running(cluster: LiveCluster, sealing: str, folder: Path) -> Iterator[System]:
    """`pipeline up` on that broker, its data in `folder`, with short tiers; it must stop without a fault."""
    named = ("--bootstrap-server", cluster.bootstrap, "--schema-registry", cluster.registry)
    with ExitStack() as stack:
        loop = stack.enter_context(running_loop())
        plain, tls = (stack.enter_context(receiving(Receiver({}, tls=secure), loop)) for secure in (False, True))
        variables = _variables(sealing, tls)
        up = stack.enter_context(started("up", "--data-dir", str(folder), *named, **variables))
        place = fields(up.until("out", bool))
        kafka = topics.admin(Settings(bootstrap_servers=cluster.bootstrap))
        yield System(place["api"], ADMIN_KEY, plain, tls, loop, kafka)
        assert up.stop() == 0


def _variables(sealing: str, tls: Receiver) -> dict[str, str]:
    return {
        "PIPELINE_ADMIN_KEY": ADMIN_KEY,
        "PIPELINE_ENCRYPTION_KEYS": sealing,
        "PIPELINE_LADDER": LADDER,
        "PIPELINE_EGRESS_CA": str(tls.ca_file),
    }


def eventually(true: Callable[[], bool], otherwise: Callable[[], str] = lambda: "not in time") -> None:
    """Look until it is true."""
    until = time.monotonic() + _WITHIN_S
    while not true():
        assert time.monotonic() < until, otherwise()
        time.sleep(_LOOK_S)
