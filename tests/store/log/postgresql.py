"""A PostgreSQL of Debian's package: its files in a temporary folder, its only door a socket there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.debian_packages import Missing, install
from tests.leashed import leashed, said

_DEBIANS = Path("/usr/lib/postgresql")
_USER = "nobody"
_INIT = ("--username=log", "--auth=trust", "--encoding=UTF8", "--no-sync")
_SORTS_AS_PEOPLE_DO = ("--locale-provider=icu", "--icu-locale=en")
"""Unlike Python and SQLite: so what must be compared byte by byte must say so."""
_SET = {"listen_addresses": "", "fsync": "off", "shared_buffers": "64MB", "max_connections": "100"}
_START_S, _STOP_S = 60.0, 30.0


@contextmanager
def running() -> Iterator[str]:
    """A server; gives the URL of a database of its own kind. Raises `Missing`."""
    programs = _programs()
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        _own(folder)
        data = folder / "data"
        _initdb([*_as_user(), str(programs / "initdb"), *_INIT, *_SORTS_AS_PEOPLE_DO, f"--pgdata={data}"], folder)
        settings = {**_SET, "unix_socket_directories": name}
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        command = [*_as_user(), str(programs / "postgres"), "-D", str(data), *options]
        with leashed("postgresql", command, folder, os.environ, folder) as server:
            said(server, "ready to accept connections", _START_S)
            yield f"postgresql://log@/postgres?host={name}"
            server.signal(signal.SIGINT)
            server.process.wait(_STOP_S)


def _programs() -> Path:
    if (found := _found()) is None:
        install("postgresql")
        found = _found()
    if found is None:
        raise Missing("postgresql is not installed")
    return found


def _found() -> Path | None:
    if (initdb := shutil.which("initdb")) is not None:
        return Path(initdb).resolve().parent
    return max((file.parent for file in _DEBIANS.glob("*/bin/initdb")), key=_version, default=None)


def _version(programs: Path) -> int:
    return int(programs.parent.name)


def _own(folder: Path) -> None:
    if os.geteuid() == 0:
        shutil.chown(folder, _USER)


def _as_user() -> Sequence[str]:
    """PostgreSQL refuses to be run by root."""
    if os.geteuid() != 0:
        return ()
    return ("setpriv", f"--reuid={_USER}", "--regid=nogroup", "--clear-groups", "--")


def _initdb(command: Sequence[str], folder: Path) -> None:
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_START_S, check=False)
    assert made.returncode == 0, f"initdb failed: {made.stderr}"
