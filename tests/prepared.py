"""A cluster with topics and schemas, as `pipeline up` leaves it, and codecs that let go of the registry."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

from pipeline.kafka.codec import Codec
from pipeline.settings import Settings
from tests.live_cluster import LiveCluster

ADMIN_KEY = "test-admin-key"


def prepared(cluster: LiveCluster) -> Settings:
    """Settings for this cluster, with keys; its topics and schemas are there."""
    _prepare(cluster.bootstrap, cluster.registry)
    return Settings(
        bootstrap_servers=cluster.bootstrap,
        schema_registry=cluster.registry,
        encryption_keys=f"test:{base64.b64encode(bytes(32)).decode()}",
        admin_key=ADMIN_KEY,
    )


@asynccontextmanager
async def codec_of(settings: Settings) -> AsyncIterator[Codec]:
    """A codec whose connection to the registry is closed at the end."""
    codec = await Codec.open(settings)
    try:
        yield codec
    finally:
        codec.client.close()


@cache
def _prepare(bootstrap: str, registry: str) -> None:
    variables = {"PIPELINE_BOOTSTRAP_SERVERS": bootstrap, "PIPELINE_SCHEMA_REGISTRY": registry}
    for command in (("topics", "create", "--partitions", "4"), ("schemas", "register")):
        subprocess.run(
            (sys.executable, "-m", "pipeline", *command),
            env={**os.environ, **variables},
            check=True,
            capture_output=True,
        )
