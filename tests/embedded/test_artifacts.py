from __future__ import annotations

import hashlib
import io
import os
import tarfile
import threading
from pathlib import Path

import jgo
import pytest

from pipeline.embedded import EmbeddedError
from pipeline.embedded.artifacts import Artifact, Programs, listed, programs


def archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in ("quarkus-run.jar", "lib/other.jar"):
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"jar"))
    return buffer.getvalue()


CONTENT = {"kafka": b"the broker", "slf4j": b"its log", "registry": archive()}


class Repository:
    """A Maven repository beside a local one: what is not in the folder is fetched into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.content = dict(CONTENT)
        self.fetched: list[str] = []
        self.lines: list[str] = []
        self.checksums = folder / "checksums.txt"
        rows = [
            f"{hashlib.sha256(data).hexdigest()}  org:{name}:1:{_packaging(name)}" for name, data in CONTENT.items()
        ]
        self.checksums.write_text("\n".join(["# a comment", *rows]))

    def fetch(self, artifact: Artifact) -> Path:
        """Find an artifact, or fetch it."""
        path = self.folder / artifact.name
        if not path.exists():
            self.fetched.append(artifact.name)
            path.write_bytes(self.content[artifact.name])
        return path

    def programs(self) -> Programs:
        """What a start finds."""
        cache = self.folder / "cache"
        return programs(self.lines.append, fetch=self.fetch, cache=cache, checksums=self.checksums)


def _packaging(name: str) -> str:
    return "tar.gz:all" if name == "registry" else "jar"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_everything_listed_is_fetched(repository: Repository) -> None:
    """The class path is what is listed, in order; the registry's archive is unpacked."""
    found = repository.programs()
    assert [path.name for path in found.kafka_classpath] == ["kafka", "slf4j"]
    assert found.registry_jar.read_bytes() == b"jar"
    assert (found.registry_jar.parent / "lib" / "other.jar").exists()


def test_a_second_start_fetches_and_says_nothing(repository: Repository) -> None:
    """What was checked once is not looked at again, as long as sizes and times are the same."""
    first = repository.programs()
    repository.lines.clear()
    (repository.folder / "cache" / "lock").unlink()
    assert repository.programs() == first
    assert (repository.fetched, repository.lines) == (list(CONTENT), [])


def test_a_wrong_file_is_refused(repository: Repository) -> None:
    """A file with another checksum than the project's is named and nothing is run."""
    repository.content["slf4j"] = b"somebody else's"
    with pytest.raises(EmbeddedError, match=rf"{repository.folder}/slf4j is not the file that this project knows"):
        repository.programs()


def test_a_file_changed_after_the_check_is_noticed(repository: Repository) -> None:
    """A jar that was changed since it was checked is not run."""
    repository.programs()
    (repository.folder / "kafka").write_bytes(b"another broker")
    repository.content["kafka"] = b"another broker"
    with pytest.raises(EmbeddedError, match="kafka is not the file"):
        repository.programs()


def test_a_cut_download_is_fetched_again(repository: Repository) -> None:
    """A file cut short by a fetch that was interrupted does not need anybody's hand."""
    (repository.folder / "kafka").write_bytes(CONTENT["kafka"][:4])
    assert repository.programs().kafka_classpath[0].read_bytes() == CONTENT["kafka"]


def test_no_network_is_said(repository: Repository) -> None:
    """Without a network the message names the file, and the way that needs none."""

    def offline(_artifact: Artifact) -> Path:
        raise ConnectionError("name resolution failed")

    with pytest.raises(EmbeddedError, match=r"kafka 1 cannot be fetched.*Is there a network\?.*--bootstrap-server"):
        programs(repository.lines.append, fetch=offline, cache=repository.folder / "c", checksums=repository.checksums)


def test_an_unpacking_that_was_killed_is_done_again(repository: Repository) -> None:
    """A folder that an interrupted unpacking left behind is not taken for the registry."""
    first = repository.programs()
    first.registry_jar.unlink()
    assert repository.programs().registry_jar.read_bytes() == b"jar"


def test_two_starts_at_once_fetch_once(repository: Repository) -> None:
    """Of two processes that start together, one fetches and the other waits for it."""
    arrived = threading.Barrier(2, timeout=30)
    found = []

    def start() -> None:
        arrived.wait()
        found.append(repository.programs())

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1]
    assert repository.fetched == list(CONTENT)


def test_the_list_is_complete() -> None:
    """Every listed file has a SHA-256 and a version of its own; broker and registry are the supported versions."""
    artifacts = listed()
    assert len({(a.group, a.name) for a in artifacts}) == len(artifacts)
    assert all(len(bytes.fromhex(a.sha256)) == 32 for a in artifacts)
    versions = {a.name: a.version for a in artifacts}
    assert (versions["kafka_2.13"], versions["apicurio-registry-app"]) == ("4.3.1", "3.3.3")


@pytest.mark.full
def test_the_list_is_what_jgo_resolves() -> None:
    """The listed jars are exactly those that the broker's own description asks for."""
    if os.environ.get("PIPELINE_OFFLINE"):
        pytest.skip("it reads the Maven repository")
    resolved = jgo.resolve("org.apache.kafka:kafka_2.13:4.3.1+org.slf4j:slf4j-simple:1.7.36")
    wanted = {(a.groupId, a.artifactId, a.version) for a in resolved}
    assert {(a.group, a.name, a.version) for a in listed() if a.packaging == "jar"} == wanted
