"""Commands whose settings are wrong, each with a secret in them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tests.secrets.canaries import Place
from tests.secrets.deployment import Deployment, new_key


def badly_started(up: Deployment, folder: Path) -> Iterator[Place]:
    """Commands whose settings are wrong, with secrets in them; what they say."""
    password = up.hunt.canaries["database password"].values[0].decode()
    base = {
        "PIPELINE_BOOTSTRAP_SERVERS": up.place["bootstrap"],
        "PIPELINE_SCHEMA_REGISTRY": up.place["registry"],
        "PIPELINE_ADMIN_KEY": up.hunt.canaries["admin key"].values[0].decode(),
        "PIPELINE_ENCRYPTION_KEYS": f"k:{password}",
        "PIPELINE_DATA_DIR": str(folder / "elsewhere"),
        "PIPELINE_DATABASE_URL": f"postgresql://user:{password}@127.0.0.1:1/log",
        "PIPELINE_EGRESS_PROXY": f"ftp://user:{password}@127.0.0.1:1",
        "PIPELINE_SCHEMA_REGISTRY_AUTH": password,
        "PIPELINE_LOG_LEVEL": "debug",
    }
    good = {"PIPELINE_ENCRYPTION_KEYS": new_key(up.hunt, "elsewhere")}
    commands: tuple[tuple[dict[str, str], tuple[str, ...]], ...] = (
        ({}, ("config", "show")),
        ({}, ("run", "api")),
        (good, ("run", "sender")),
        ({"PIPELINE_DATABASE_URL": f"mysql://user:{password}@127.0.0.1/log"}, ("run", "recorder")),
        ({}, ("run", "recorder", "--from", "latest")),
    )
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(_started(arguments, {**base, **more})) for more, arguments in commands]
        for process, (_, arguments) in zip(started, commands, strict=True):
            assert process.stderr is not None
            assert process.stdout is not None
            said = list(_until_it_waits(process.stderr))
            if said and b"waiting" in said[-1]:
                process.kill()
            said += [process.stdout.read(), process.stderr.read()]
            assert process.wait(30) == _ENDS.get(arguments, 2), (arguments, said)
            yield Place(f"{arguments} said", b"".join(said))


_ENDS = {("config", "show"): 0, ("run", "recorder", "--from", "latest"): -signal.SIGKILL}


def _until_it_waits(lines: IO[bytes]) -> Iterator[bytes]:
    """What a process says until it waits for its database, or has ended."""
    for line in lines:
        yield line
        if b"waiting" in line:
            return


@contextlib.contextmanager
def _started(arguments: tuple[str, ...], variables: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    environ = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **variables}
    command = [sys.executable, "-m", "pipeline", *arguments]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()
