"""Packages of npm in the user's cache, installed there once."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

_INSTALL_S = 180
_OPTIONS = ("--no-save", "--ignore-scripts", "--no-audit", "--no-fund")


class Missing(Exception):
    """Node, npm or the packages cannot be had here."""


def node() -> str:
    """The program `node`. Raises `Missing`."""
    return _tool("node")


def node_modules(*packages: str) -> Path:
    """The folder `node_modules` that holds these (`name@version`). Raises `Missing` with npm's last line."""
    name = "-".join(package.replace("/", "_") for package in packages)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "webhook-pipeline" / name
    if not (cache / "complete").exists():
        cache.mkdir(parents=True, exist_ok=True)
        _install([_tool("npm"), "install", *_OPTIONS, "--prefix", str(cache), *packages])
        (cache / "complete").touch()
    return cache / "node_modules"


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Missing(f"{name} is not installed")
    return found


def _install(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_S)
    except subprocess.TimeoutExpired as error:
        raise Missing(f"npm was not done after {_INSTALL_S} s") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr or error.stdout).strip().splitlines()[-1:]
        raise Missing(f"npm install failed: {' '.join(last)}") from error
