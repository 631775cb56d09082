"""Per product one story from its page, from configuring to removing: over REST, and on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.profiles import PROFILES
from tests.live_cluster import LiveCluster
from tests.providers.products import STORIES
from tests.providers.story import Story
from tests.providers.system import System, running
from tests.providers.ways import WAYS

pytestmark = pytest.mark.providers


@pytest.fixture(scope="module")
def system(cluster: LiveCluster, sealing: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One for all stories."""
    with running(cluster, sealing, tmp_path_factory.mktemp("up")) as system:
        yield system


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
