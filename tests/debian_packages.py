"""Programs of Debian's packages: used if they are installed, else installed where that is allowed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

_INSTALL_S = 180


class Missing(Exception):
    """What a test needs cannot be had here."""


def install(package: str) -> None:
    """Install Debian's package, without starting what it brings. Raises `Missing` with apt's last line."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Missing(f"only root may install Debian's {package}")
    wanted = ("apt-get", "install", "-y", "--no-install-recommends", package)
    try:
        done(wanted)
    except Missing:  # perhaps only the lists of packages are missing
        done(("apt-get", "update"))
        done(wanted)


def done(command: Sequence[str]) -> None:
    """Run an installer. Raises `Missing` with its last line."""
    quiet = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    environment = {**os.environ, **quiet}
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_S, env=environment)
    except subprocess.TimeoutExpired as error:
        raise Missing(f"{Path(command[0]).name} was not done after {_INSTALL_S} s") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr or error.stdout).strip().splitlines()[-1:]
        raise Missing(f"{' '.join(command[:2])} failed: {' '.join(last)}") from error
