"""A server that is forked from one that has all imported is what a new process would be."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kit.server import RegistryProcess, inherited
from tests.kit.sources import ROOT
from tests.kit.warm import can_fork, start_seatrial

_PR_SET_CHILD_SUBREAPER = 36
_STATUS = ("SigIgn", "SigCgt", "SigBlk", "Uid", "Umask")
NEW = (sys.executable, "-m", "registry.main")


def seen(data: Path, *program: str) -> dict[str, Any]:
    """All that a test might see of a server: what it has, and how it ends."""
    process = RegistryProcess(data, program=program)
    try:
        return seen_of(process)
    finally:
        process.stop()
        process.log.unlink()
        shutil.rmtree(data)


def seen_of(process: RegistryProcess) -> dict[str, Any]:
    process.start()
    pid = process.pid
    found: dict[str, Any] = {
        "standard": [Path(f"/proc/{pid}/fd/{number}").readlink() for number in range(3)],
        "folder": Path(f"/proc/{pid}/cwd").readlink(),
        "signals": signals_of(pid),
    }
    os.kill(pid, signal.SIGKILL)
    found["killed"] = process.wait(60)
    process.start()
    process.terminate()
    found["ended"] = process.wait(60)
    # Beside them stands what is logged, as it comes.
    told = [line for line in process.log.read_text().splitlines() if not line.startswith("{")]
    found["told"] = [line.partition("127.0.0.1")[0] for line in told[:3]]
    return found


def signals_of(pid: int) -> list[str]:
    """What it does with signals, when it rests: while it starts a thread it blocks all of them."""
    seen: list[list[str]] = [[], ["nothing yet"]]
    while seen[-1] != seen[-2]:
        time.sleep(0.1)
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        seen.append([line for line in lines if line.startswith(_STATUS)])
    return seen[-1]


def test_it_has_and_does_what_a_new_process_has_and_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    forked = seen(tmp_path / "data")
    assert forked["folder"] == tmp_path
    assert (forked["killed"], forked["ended"]) == (-signal.SIGKILL, 0)
    assert forked == seen(tmp_path / "data", *NEW)


def test_why_it_does_not_start_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    said = []
    for program in ((), NEW):
        process = RegistryProcess(tmp_path / "data", program=program)
        with pytest.raises(AssertionError, match="did not start") as refused:
            process.start()
        said.append(str(refused.value))
        process.log.unlink()
    assert said[0] == said[1]
    assert "data" in said[0]


def test_wrong_usage_and_an_environment_of_its_own(tmp_path: Path) -> None:
    command = ["db", "upgrade"]
    environment = {"PATH": os.environ["PATH"], "SEATRIAL_NONSENSE": "1"}
    new = subprocess.run([*NEW, *command], env=environment, capture_output=True, text=True, check=False)
    with (tmp_path / "log").open("wb") as log:
        process = start_seatrial(command, environment=environment, output=log.fileno())
    assert process.wait(60) == process.poll() == new.returncode == 64
    assert (tmp_path / "log").read_text() == new.stdout + new.stderr
    process.kill()  # which nobody feels


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("sys.exit()", 0),
        ("sys.exit(3)", 3),
        ("sys.exit('a word')", 1),
        ("raise LookupError('nothing')", 1),
        ("raise KeyboardInterrupt", -signal.SIGINT),
        ("None", 0),
        ("sys.stdout.close(); sys.exit(2)", 2),
        ("os.dup2(os.open('/dev/full', os.O_WRONLY), 1); sys.exit(2)", 120),
    ],
)
def test_it_ends_as_python_ends(ending: str, code: int) -> None:
    """Threads are waited for, what is registered runs, what was printed is written, or that it was not."""
    script = (
        "import atexit, os, sys, threading, time\n"
        "from tests.kit.warm import run_to_its_end\n"
        "def late(): time.sleep(0.05); print('a thread')\n"
        "def command():\n"
        "    threading.Thread(target=late).start()\n"
        "    atexit.register(sys.stderr.write, 'registered\\n')\n"
        "    print('printed', flush=False)\n"
        f"    {ending}\n"
    )

    def run(end: str) -> tuple[int, str, list[str]]:
        command = [sys.executable, "-c", script + end]
        done = subprocess.run(
            command, cwd=ROOT, env={**inherited()}, capture_output=True, text=True, check=False
        )
        # A traceback tells of the lines between as well.
        said = [line for line in done.stderr.splitlines() if not line.startswith(" ")]
        return done.returncode, done.stdout, said

    quick = run("run_to_its_end(command)\n")
    assert quick == run("command()\n")
    assert quick[0] == code


def test_none_is_forked_for_who_has_moved_elsewhere_or_adopts() -> None:
    assert can_fork()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    limited = can_fork()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    adopting = can_fork()
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    assert (limited, adopting, can_fork()) == (False, False, True)


def test_the_one_that_forks_may_die(tmp_path: Path) -> None:
    process = RegistryProcess(tmp_path / "data")
    process.start()
    parent = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    process.start()
    process.terminate()
    assert process.wait(60) == 0
