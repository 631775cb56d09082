from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live_cluster import LiveCluster
from tests.providers.system import System, running


@pytest.fixture(scope="package")
def system(cluster: LiveCluster, sealing: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One for all modules: the groups are free again after them."""
    with running(cluster, sealing, tmp_path_factory.mktemp("replays")) as system:
        yield system
