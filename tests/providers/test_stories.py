"""Per product one story from its page, from configuring to removing: over REST, and on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from pipeline.http.receiver import Receiver
from pipeline.kafka import topics
from pipeline.profiles import PROFILES
from pipeline.settings import Settings
from tests.cli.started import fields, started
from tests.e2e.flow import receiving, running_loop
from tests.live_cluster import LiveCluster
from tests.prepared import ADMIN_KEY
from tests.providers.products import STORIES
from tests.providers.story import Story, System
from tests.providers.ways import WAYS

pytestmark = pytest.mark.providers
LADDER = "retry-5s=60ms retry-60s=30ms"
"""Every wait of a product's rule is at most eight of the longer tier: half a second."""


@pytest.fixture(scope="module")
def system(cluster: LiveCluster, sealing: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """`pipeline up` on the run's broker, with short tiers, and receivers that it may reach: one for all stories."""
    folder = tmp_path_factory.mktemp("up")
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


def test_every_product_has_its_story() -> None:
    """A further product without a story fails here."""
    assert set(STORIES) == set(PROFILES)


@pytest.mark.parametrize("product", STORIES)
def test_story(system: System, product: str) -> None:
    """What the product's page promises its customer happens, in the page's words; in both ways, side by side."""
    ways = [way(system.url, system.key) for way in WAYS]
    with ThreadPoolExecutor(len(ways)) as threads:
        told = [threads.submit(STORIES[product], Story.begin(system, way, product)) for way in ways]
    for one in told:
        one.result()
