"""The scripts of a fresh clone, with stand-ins for Python and uv on a PATH of their own, so that nothing is fetched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ("setup", "run", "test", "bench", "faults")
TOOLS = ("sh", "cat", "cksum", "sed", "dirname", "touch", "mkdir", "sleep")
UV = """#!/bin/sh
echo "uv $*" >>"$LOG"
case "$1" in
venv) for last; do :; done
    mkdir -p "$last/bin"
    printf '#!/bin/sh\\necho ran "$@"\\n' >"$last/bin/python"
    chmod +x "$last/bin/python" ;;
esac
"""


class Clone:
    """A copy of what set-up needs, beside a PATH that holds only what a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a clone"
        self.bin = folder / "bin"
        self.log = folder / "log"
        self.log.touch()
        for name in ("scripts", "requirements"):
            shutil.copytree(ROOT / name, self.root / name)
        shutil.copy(ROOT / "pyproject.toml", self.root)
        self.bin.mkdir()
        for tool in (*TOOLS, "chmod", "grep"):
            self.bin.joinpath(tool).symlink_to(shutil.which(tool) or tool)

    def program(self, name: str, text: str) -> None:
        """Put a program on the PATH."""
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def python(self, name: str = "python3", version: str = "3.11", lacks: str = "") -> None:
        """Put a Python on the PATH that claims a version, and may lack a module."""
        lines = [
            "#!/bin/sh",
            f'case "$*" in *version_info*) echo {version} ;;',
            f'*"import "*{lacks or "nothing"}*) exit 1 ;;' if lacks else "",
            f'*) exec {sys.executable} "$@" ;; esac',
        ]
        self.program(name, "\n".join(line for line in lines if line) + "\n")

    def run(self, script: str, *args: str) -> subprocess.CompletedProcess[str]:
        """Run a script with this PATH alone."""
        command = ["sh", str(self.root / "scripts" / script), *args]
        return subprocess.run(command, env=self.env(), capture_output=True, text=True, timeout=60, check=False)

    def env(self) -> dict[str, str]:
        """The environment of a run."""
        return {"PATH": str(self.bin), "LOG": str(self.log), "HOME": str(self.root)}

    def calls(self, word: str) -> int:
        """How often a stand-in was called so."""
        return self.log.read_text().count(word)


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


@pytest.fixture
def ready(clone: Clone) -> Clone:
    """A clone whose environment was made once, by the stand-ins."""
    clone.program("uv", UV)
    clone.python()
    assert clone.run("setup", "test").returncode == 0
    return clone


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("shell", ["sh", "dash", "bash"])
def test_scripts_are_posix(script: str, shell: str) -> None:
    """Each script is understood by every shell that may be `sh`."""
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    text = (ROOT / "scripts" / script).read_text()
    assert text.startswith("#!/bin/sh\n")
    assert not [word for word in ("[[", "local ", "function ", "<<<", "pipefail") if word in text]
    subprocess.run([shell, "-n", str(ROOT / "scripts" / script)], check=True)


def test_no_python_is_said(clone: Clone) -> None:
    """Without a Python the one line says what is needed and how to get it."""
    done = clone.run("run")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Python 3.11 or newer is needed and none is on the PATH. On Debian")
    assert len(done.stderr.splitlines()) == 1


def test_an_old_python_is_not_used(clone: Clone) -> None:
    """A Python that is too old is as good as none."""
    clone.program("python3", "#!/bin/sh\nexit 0\n")
    assert "Python 3.11 or newer is needed" in clone.run("run").stderr


def test_a_python_without_venv_is_said(clone: Clone) -> None:
    """A Python without venv, as Debian installs it, is told with the package that is missing."""
    clone.python("python3.13", version="3.13", lacks="ensurepip")
    done = clone.run("run")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Python 3.13 is here but lacks venv and ensurepip. On Debian or Ubuntu: apt install python3.13-venv\n"
    )


def test_uv_needs_no_venv(clone: Clone) -> None:
    """With uv on the PATH, a Python without venv serves."""
    clone.program("uv", UV)
    clone.python(lacks="ensurepip")
    assert clone.run("setup", "run").returncode == 0


def test_setup_installs_the_lock(ready: Clone) -> None:
    """Set-up makes the environment, then installs the locked versions with their hashes, then the project alone."""
    venv, lock, project = ready.log.read_text().splitlines()
    assert venv.startswith("uv venv")
    assert lock.endswith("--require-hashes --requirement requirements/test.txt")
    assert project.endswith("--no-deps --no-build-isolation --editable .")


@pytest.mark.parametrize(
    ("script", "args", "ran"),
    [
        ("run", ["--once", "a b"], "ran -m pipeline demo --once a b"),
        ("test", ["tests/x.py", "-k", "a b"], "ran -m pytest tests/x.py -k a b"),
        ("bench", ["latency"], "ran -m bench latency"),
    ],
)
def test_scripts_pass_their_arguments_on(ready: Clone, script: str, args: list[str], ran: str) -> None:
    """Each script ends in its program with the arguments, whatever is in them, and says nothing itself."""
    done = ready.run(script, *args)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{ran}\n", "")


def test_the_second_start_installs_nothing(ready: Clone) -> None:
    """Once made, the environment is used as it is: no installer and no Python is called."""
    before = ready.log.read_text()
    for name in ("uv", "python3"):
        ready.program(name, "#!/bin/sh\nexit 9\n")
    assert ready.run("setup", "test").returncode == 0
    assert ready.run("setup", "run").returncode == 0, "what the tests need includes what a run needs"
    assert ready.log.read_text() == before


def test_a_changed_lock_is_installed(ready: Clone) -> None:
    """When the locked versions change, they are installed into the environment that is there."""
    with (ready.root / "requirements" / "test.txt").open("a") as lock:
        lock.write("# changed\n")
    assert ready.run("setup", "test").returncode == 0
    assert (ready.calls("uv venv"), ready.calls("--require-hashes")) == (1, 2)


def test_a_moved_folder_gets_a_new_environment(ready: Clone) -> None:
    """An environment names its own path; after a move it is made anew."""
    ready.root = ready.root.rename(ready.root.with_name("moved"))
    done = ready.run("setup", "test")
    assert (done.returncode, ready.calls("uv venv")) == (0, 2)


def test_a_failed_installation_is_an_error(clone: Clone) -> None:
    """When the installer fails, so does the script, and the program is not run."""
    clone.python()
    clone.program(
        "uv", UV.replace('echo "uv $*" >>"$LOG"', 'case "$*" in *require-hashes*) echo broken; exit 3;; esac')
    )
    done = clone.run("run")
    assert (done.returncode, done.stdout) == (1, "")
    assert "broken" in done.stderr
    assert "set-up failed: " in done.stderr.splitlines()[-1]


def test_a_killed_setup_is_made_good(clone: Clone) -> None:
    """A set-up that was killed half-way leaves an environment that the next one makes anew."""
    clone.python()
    clone.program("uv", UV.replace("esac", "pip) kill -9 $PPID ;;\nesac"))
    assert clone.run("setup", "run").returncode != 0
    clone.program("uv", UV)
    assert clone.run("setup", "run").returncode == 0
    assert (clone.calls("uv venv"), clone.calls("--require-hashes")) == (2, 2)


def test_two_setups_at_once_install_once(clone: Clone) -> None:
    """Two scripts that start together make one environment; the second waits, and then finds it."""
    clone.python()
    os.mkfifo(clone.bin.parent / "gate")
    gate = f'venv) read -r _ <"{clone.bin.parent}/gate"; for last'
    clone.program("uv", UV.replace("venv) for last", gate))
    command = ["sh", str(clone.root / "scripts" / "setup"), "run"]
    both = [subprocess.Popen(command, env=clone.env(), stderr=subprocess.PIPE, text=True) for _ in range(2)]
    # One of the two says that it waits only when the other has the lock; then the gate is opened.
    waiting = [run for run in both if run.stderr and "another set-up" in run.stderr.readline()]
    (clone.bin.parent / "gate").write_text("open\n")
    for run in both:
        run.communicate(timeout=60)
    assert [run.returncode for run in both] == [0, 0]
    assert (len(waiting), clone.calls("uv venv"), clone.calls("--require-hashes")) == (1, 1, 1)
