"""Kafka as a child process: one node, broker and controller at once (KRaft, KIP-500)."""

from __future__ import annotations

import base64
import signal
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.embedded import leash
from pipeline.embedded._errors import EmbeddedError
from pipeline.embedded.addresses import HOST, kafka_answers

_SETTINGS = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
controller.quorum.voters=1@{host}:{controller_port}
log.dirs=records
auto.create.topics.enable=false
message.max.bytes=9437184
offsets.retention.minutes=43200
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
log.cleaner.dedupe.buffer.size=16777216
num.io.threads=2
num.network.threads=1
"""
# `log.dirs` is relative to the process's folder: it is a list with commas, which a path may contain.
# The voter is named here, not stored in the log, so that every start may have another port.
# A broker that was killed must wait for its own old session to end before it may register again.
# Few partitions of Kafka's own topics: they are made, and read at each start, for one broker's few groups.
# Of the cleaner's buffer the default is 128 MiB: half of so small a heap, of which the collector would never be done.

# The quick compiler alone: on a machine of two cores the other one takes, for its first minutes, more than it gives.
_ONCE = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
_LASTING = (
    "-XX:TieredStopAtLevel=1",
    "-XX:-UseCodeCacheFlushing",  # what is compiled stays: to look for what is not used takes a collection of the heap
    "-Xms256m",
    "-Xmx512m",
    "-XX:+ExitOnOutOfMemoryError",
)
_LOGGING = (
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config.AbstractConfig=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)


@dataclass(frozen=True, slots=True)
class Broker:
    """What it takes to start the broker in `folder`, on fixed ports."""

    java: Path
    classpath: Sequence[Path]
    folder: Path
    log: Path
    port: int
    controller_port: int
    lock: int

    @property
    def settings(self) -> Path:
        """Its server.properties."""
        return self.folder / "server.properties"

    @property
    def formatted(self) -> bool:
        """Whether the folder has been given to Kafka before."""
        return (self.folder / "records" / "meta.properties").exists()

    def write_settings(self) -> None:
        """Make the folder and write the settings for this start."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.settings.write_text(_SETTINGS.format(host=HOST, port=self.port, controller_port=self.controller_port))

    async def format(self) -> None:
        """Give the empty folder to Kafka, as it must be done once."""
        command = self._java("kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", _cluster_id())
        command += ["-c", self.settings]
        child = leash.start("kafka-format", command, self.log, cwd=self.folder, holding=(self.lock,))
        try:
            code = await child.ended()
        finally:
            child.signal(signal.SIGKILL)
        if code:
            raise EmbeddedError(f"Kafka could not format {self.folder} (exit code {code}):\n{child.last_words()}")

    def launch(self) -> leash.Child:
        """Start the process."""
        command = self._java("kafka.Kafka", self.settings, quick=False)
        return leash.start("kafka", command, self.log, cwd=self.folder, holding=(self.lock,))

    async def ready(self) -> bool:
        """Whether it serves clients."""
        return await kafka_answers(self.port)

    def _java(self, main: str, *args: str | Path, quick: bool = True) -> list[str | Path]:
        flags = _ONCE if quick else _LASTING
        path = ":".join(map(str, self.classpath))
        return [self.java, *flags, "-Djava.awt.headless=true", *_LOGGING, "-cp", path, main, *args]


def _cluster_id() -> str:
    """Kafka's form of a UUID: 22 characters of URL-safe base64, the first no dash."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text
