from __future__ import annotations

import base64
from pathlib import Path

import pytest

from pipeline.settings import Settings
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
