"""Kafka's and the registry's files: fetched from the Maven repository by jgo once, checked against `checksums.txt`.

`checksums.txt` is also the list of what is fetched, so nothing is resolved at run time: the same files, always. They
lie in Maven's local repository (`~/.m2/repository`, or where jgo's settings or M2_REPO say); the registry's archive is
unpacked, and what was checked is noted, in the user's cache directory. Later starts compare sizes and times alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.embedded._errors import EmbeddedError

CHECKSUMS = Path(__file__).with_name("checksums.txt")

Fetch = Callable[["Artifact"], Path]
"""Finds an artifact in the local repository or downloads it to there; `OSError` when that is impossible."""
Progress = Callable[[str], None]
_STEP = 20_000_000


@dataclass(frozen=True, slots=True)
class Artifact:
    """One line of `checksums.txt`."""

    sha256: str
    group: str
    name: str
    version: str
    packaging: str
    classifier: str


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the fetched programs lie."""

    kafka_classpath: tuple[Path, ...]
    registry_jar: Path


def listed(checksums: Path = CHECKSUMS) -> tuple[Artifact, ...]:
    """What `checksums.txt` lists."""
    lines = (line.split() for line in checksums.read_text().splitlines() if line and not line.startswith("#"))
    return tuple(_artifact(digest, coordinate.split(":")) for digest, coordinate in lines)


def _artifact(digest: str, parts: Sequence[str]) -> Artifact:
    group, name, version, packaging, *classifier = parts
    return Artifact(digest, group, name, version, packaging, "".join(classifier))


def cache_dir() -> Path:
    """The product's folder in the user's cache directory."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "webhook-pipeline"


def programs(
    progress: Progress, *, fetch: Fetch | None = None, cache: Path | None = None, checksums: Path = CHECKSUMS
) -> Programs:
    """Find the programs, fetching, checking and unpacking what is not there yet. Blocks; safe in several processes.

    Raises `EmbeddedError` that names the file when one cannot be had or is not the one that the project knows.
    """
    cache = cache or cache_dir()
    note = cache / f"checked-{hashlib.sha256(checksums.read_bytes()).hexdigest()[:16]}.json"
    known = _noted(note)
    if known is None:
        with _alone(cache, progress):
            known = _noted(note) or _obtain(listed(checksums), fetch or _jgo(progress), note, progress)
    return _programs(known)


def _programs(paths: Sequence[Path]) -> Programs:
    return Programs(
        kafka_classpath=tuple(path for path in paths if path.name != "quarkus-run.jar"),
        registry_jar=next(path for path in paths if path.name == "quarkus-run.jar"),
    )


def _noted(note: Path) -> list[Path] | None:
    """The files of an earlier check, if each is still the size and age that it was."""
    try:
        files: dict[str, list[int]] = json.loads(note.read_text())
        unchanged = all(_marks(Path(path)) == marks for path, marks in files.items())
    except (OSError, ValueError):
        return None
    return [Path(path) for path in files] if unchanged else None


def _marks(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _obtain(artifacts: Sequence[Artifact], fetch: Fetch, note: Path, progress: Progress) -> list[Path]:
    paths = []
    for number, artifact in enumerate(artifacts, 1):
        progress(f"fetching Kafka and the registry, once: {number} of {len(artifacts)}, {artifact.name}")
        path = _checked(artifact, fetch)
        paths.append(_unpacked(path, artifact, note.parent, progress) if artifact.packaging == "tar.gz" else path)
    _write(note, json.dumps({str(path): _marks(path) for path in paths}))
    return paths


def _checked(artifact: Artifact, fetch: Fetch) -> Path:
    """The artifact's file, with the right content. One that is wrong, as a cut download leaves it, is fetched again."""
    path = _fetched(artifact, fetch)
    if _digest(path) == artifact.sha256:
        return path
    aside = path.with_name(f"{path.name}.wrong")
    path.replace(aside)
    path = _fetched(artifact, fetch)
    digest = _digest(path)
    if digest == artifact.sha256:
        aside.unlink()
        return path
    raise EmbeddedError(
        f"{path} is not the file that this project knows (SHA-256 {digest}, expected {artifact.sha256}): nothing of it "
        "was run. Remove it, and look at where your Maven repository gets it from."
    )


def _fetched(artifact: Artifact, fetch: Fetch) -> Path:
    try:
        return fetch(artifact)
    except (OSError, RuntimeError) as error:
        raise EmbeddedError(
            f"{artifact.name} {artifact.version} cannot be fetched from the Maven repository ({type(error).__name__}). "
            "Is there a network? It is needed once. Or name a broker and a registry of yours with --bootstrap-server "
            "and --schema-registry."
        ) from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpacked(archive: Path, artifact: Artifact, cache: Path, progress: Progress) -> Path:
    """The archive's `quarkus-run.jar`; the folder appears whole or not at all."""
    folder = cache / f"{artifact.name}-{artifact.version}-{artifact.sha256[:8]}"
    if not (folder / "quarkus-run.jar").exists():
        progress(f"unpacking {artifact.name} {artifact.version}")
        part = folder.with_name(f"{folder.name}.part")
        for leftover in (part, folder):
            shutil.rmtree(leftover, ignore_errors=True)
        with tarfile.open(archive) as tar:
            tar.extraction_filter = getattr(tarfile, "data_filter", None)  # from 3.11.4 on
            tar.extractall(part)  # noqa: S202 - its checksum was compared
        (jar,) = part.rglob("quarkus-run.jar")
        jar.parent.replace(folder)
    return folder / "quarkus-run.jar"


def _write(path: Path, text: str) -> None:
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    scratch.write_text(text)
    scratch.replace(path)


@contextmanager
def _alone(cache: Path, progress: Progress) -> Iterator[None]:
    """One process fetches; others wait, and then find what it fetched."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("another start is fetching Kafka and the registry: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _jgo(progress: Progress) -> Fetch:
    """Fetching by jgo, with the user's own settings of it."""
    try:
        from jgo.config import GlobalSettings  # noqa: PLC0415 - half a second that only the first start needs
        from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415
        from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415
    except ImportError as error:
        raise EmbeddedError("The embedded broker needs jgo: pip install 'webhook-pipeline[embedded]'.") from error

    settings = GlobalSettings.load()
    repositories = {**settings.repositories, "central": settings.repositories.get("central", MAVEN_CENTRAL_URL)}
    resolver = PythonResolver(progress_callback=partial(_counted, progress))
    context = MavenContext(resolver=resolver, repo_cache=settings.repo_cache, remote_repos=repositories)

    def fetch(artifact: Artifact) -> Path:
        component = context.project(artifact.group, artifact.name).at_version(artifact.version)
        return Path(component.artifact(classifier=artifact.classifier, packaging=artifact.packaging).resolve())

    return fetch


@contextmanager
def _counted(progress: Progress, name: str, size: int) -> Iterator[Callable[[int], None]]:
    """Tell of a long download every 20 MB."""
    done = 0

    def update(count: int) -> None:
        nonlocal done
        done += count
        if done // _STEP > (done - count) // _STEP:
            progress(f"fetching {name}: {done // 1_000_000} of {size // 1_000_000} MB")

    yield update
