from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.settings import Settings
from tests.e2e.flow import LADDER, Flow, running
from tests.live_cluster import LiveCluster


@pytest.fixture
def settings(cluster: LiveCluster, tmp_path: Path) -> Settings:
    """Settings that name the run's broker and registry, with a key to seal secrets and a folder of the test's own."""
    return Settings(
        bootstrap_servers=cluster.bootstrap,
        schema_registry=cluster.registry,
        encryption_keys=f"test:{base64.b64encode(bytes(32)).decode()}",
        admin_key="test-admin-key",
        data_dir=tmp_path,
    )


@pytest.fixture(scope="module")
def flow(cluster: LiveCluster, sealing: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """Router, sender and delay at work on the run's broker, for one module: groups are free again after it."""
    folder = tmp_path_factory.mktemp("flow")
    settings = Settings(
        bootstrap_servers=cluster.bootstrap,
        schema_registry=cluster.registry,
        encryption_keys=sealing,
        ladder=LADDER,
        egress_allow="127.0.0.0/8",
        data_dir=folder,
        instance_id="e2e",
    )
    with running(settings, folder) as started:
        yield started
