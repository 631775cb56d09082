"""Makes `.venv`: one set-up at a time, hashes checked, recovering from a set-up that was killed.

Run by `scripts/setup` under the system's own Python, so it uses nothing but the standard library.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCK = ROOT / ".venv.lock"
UNFINISHED = b"unfinished"
"""What the lock file holds while packages are being installed: an environment found so is made anew."""


def say(line: str) -> None:
    """One line of set-up talk."""
    print(line, file=sys.stderr, flush=True)


def call(*command: str | Path) -> None:
    """Run a command; its output is set-up talk too, and its failure ends the set-up."""
    # The lock stays with the children, so that it outlives a set-up that is killed under a running installer.
    done = subprocess.run([str(part) for part in command], cwd=ROOT, stdout=sys.stderr, close_fds=False, check=False)
    if done.returncode:
        say(f"set-up failed: {' '.join(map(str, command[:5]))} … ended with {done.returncode}; what it said is above")
        raise SystemExit(1)


def lock() -> int:
    """Wait until no other set-up works here; the kernel lets go when its last process ends, however that ends."""
    handle = os.open(LOCK, os.O_CREAT | os.O_RDWR, 0o644)
    os.set_inheritable(handle, True)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another set-up is at work in this folder: waiting for it")
        fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def usable(uv: str | None, wanted: str) -> bool:
    """Whether the environment that is there can be added to: finished, not moved, Python new enough, an installer."""
    if not PYTHON.exists() or LOCK.read_bytes() == UNFINISHED or moved(wanted):
        return False
    new_enough = "import sys; raise SystemExit(sys.version_info < (3, 11))"
    probes = [new_enough, *([] if uv else ["import pip"])]
    runs = (subprocess.run([str(PYTHON), "-c", probe], stderr=subprocess.DEVNULL, check=False) for probe in probes)
    return all(run.returncode == 0 for run in runs)


def moved(wanted: str) -> bool:
    """Whether it was made in another folder: its programs name that. A stamp is a checksum, a size and the folder."""
    folder = wanted.split(" ", 2)[2]
    return any(stamp.read_text().strip().split(" ", 2)[2:] != [folder] for stamp in VENV.glob(".ready-*"))


def create(uv: str | None) -> None:
    """An empty environment in the place of whatever was there."""
    say(f"making .venv with Python {sys.version.split()[0]}")
    shutil.rmtree(VENV, ignore_errors=True)
    if uv:
        call(uv, "venv", "--quiet", "--python", sys.executable, VENV)
    else:
        call(sys.executable, "-m", "venv", VENV)


def install(uv: str | None, kind: str) -> None:
    """The locked packages, then the project itself, editable; building it needs nothing from outside."""
    say(f"installing the locked packages of requirements/{kind}.txt with {'uv' if uv else 'pip'} (once)")
    tool = (
        [uv, "pip", "install", "--python", str(PYTHON)] if uv else [str(PYTHON), "-m", "pip", "install", "--no-input"]
    )
    quiet = [*tool, "--quiet"] if uv else [*tool, "--quiet", "--disable-pip-version-check"]
    call(*quiet, "--require-hashes", "--requirement", f"requirements/{kind}.txt")
    call(*quiet, "--no-deps", "--no-build-isolation", "--editable", ".")


def main(kind: str, wanted: str) -> None:
    """Bring the environment to `wanted`, the stamp that `scripts/setup` compares."""
    held = lock()
    uv = shutil.which("uv")
    stamp = VENV / f".ready-{kind}"
    fit = usable(uv, wanted)
    if fit and stamp.exists() and stamp.read_text().strip() == wanted:
        return  # another set-up did it while we waited
    os.pwrite(held, UNFINISHED, 0)
    if not fit:
        create(uv)
    install(uv, kind)
    stamp.write_text(f"{wanted}\n")
    os.ftruncate(held, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
