"""MonitHQ's three example receivers as processes: its page's code word for word, and a line that starts it.

Each needs something that may not be here. It is used if it is installed, else installed where that is allowed, else
`Missing` says why not.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.debian_packages import Missing, done, install

PAGES = Path(__file__).parent / "pages"
SECRET = "YOUR_WEBHOOK_SECRET"
"""As the page has it."""
EXPRESS = "5.3.0"
START_S = 30

_START_EXPRESS = (
    "const server = app.listen(0, '127.0.0.1', () => console.log(`listening on ${server.address().port}`));\n"
)
_START_FLASK = """
from werkzeug.serving import make_server
server = make_server('127.0.0.1', 0, app)
print(f'listening on {server.server_port}', flush=True)
server.serve_forever()
"""


@contextmanager
def running(kind: str, folder: Path) -> Iterator[int]:
    """Run one of `RECEIVERS` with its files in `folder`; gives its port. Raises `Missing`."""
    command = RECEIVERS[kind](folder)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        guard = threading.Timer(START_S, process.kill)
        guard.start()
        try:
            port = _port(process)
            guard.cancel()
            yield port
        finally:
            guard.cancel()
            process.terminate()


def _port(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if found := re.search(r"listening on (\d+)|127\.0\.0\.1:(\d+)\) started", line):
            return int(found[1] or found[2])
    raise AssertionError(f"it ended before it listened: {said}")


def _express(folder: Path) -> list[str]:
    (folder / "node_modules").symlink_to(_node_modules())
    page = (PAGES / "express.mjs.txt").read_text(encoding="utf-8")
    (folder / "receiver.mjs").write_text(page + _START_EXPRESS, encoding="utf-8")
    return [_tool("node"), str(folder / "receiver.mjs")]


def _flask(folder: Path) -> list[str]:
    page = (PAGES / "flask.py.txt").read_text(encoding="utf-8")
    (folder / "receiver.py").write_text(page + _START_FLASK, encoding="utf-8")
    return [sys.executable, str(folder / "receiver.py")]


def _php(folder: Path) -> list[str]:
    page = (PAGES / "php.txt").read_text(encoding="utf-8")
    (folder / "receiver.php").write_text("<?php\n" + page, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [_installed_php(), "-S", f"127.0.0.1:{port}", str(folder / "receiver.php")]


RECEIVERS: Mapping[str, Callable[[Path], list[str]]] = {"express": _express, "flask": _flask, "php": _php}


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Missing(f"{name} is not installed")
    return found


def _node_modules() -> Path:
    """Express in the user's cache, installed there once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "webhook-pipeline" / f"express-{EXPRESS}"
    if not (cache / "complete").exists():
        cache.mkdir(parents=True, exist_ok=True)
        options = ("--no-save", "--ignore-scripts", "--no-audit", "--no-fund")
        done([_tool("npm"), "install", *options, "--prefix", str(cache), f"express@{EXPRESS}"])
        (cache / "complete").touch()
    return cache / "node_modules"


def _installed_php() -> str:
    """PHP's command line, from Debian's package where we may install it: as root."""
    if shutil.which("php") is None:
        install("php-cli")
    return _tool("php")
