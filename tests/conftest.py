"""What every test may use, and the order in which tests run: without a broker first, then with one, then the rest."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator

import pytest

from tests.live_cluster import LiveCluster, live_cluster

_LAST = ("providers", "faults", "browser", "egress", "hostile", "full")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveCluster]:
    """The run's one broker and registry, started when the first test asks for it. Its user is marked `kafka`."""
    with live_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="session")
def sealing() -> str:
    """One key for all modules: deliveries that one of them leaves on the ladder are met by the next one's sender."""
    return f"test:{base64.b64encode(os.urandom(32)).decode()}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kafka)
        if "full" in item.keywords and "full" not in config.getoption("markexpr"):
            item.add_marker(pytest.mark.skip(reason="a long form, run by -m full"))
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    if any(item.get_closest_marker(name) for name in _LAST):
        return 2
    return 1 if item.get_closest_marker("kafka") else 0
