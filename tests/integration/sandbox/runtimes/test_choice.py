"""``auto`` takes the strongest runtime that is there and works, and keeps why it took no stronger one.

Programs that say a version and can do nothing else stand for runtimes that are broken, or old.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.errors import SandboxError
from sandbox.runtimes.choose import find_runtime
from sandbox.runtimes.oci import SEARCH
from tests.kit.sources import ROOT

BROKEN = "runsc version release-20260101.0\nspec: 1.2.1"
OLD = "runc version 1.1.0\nlibseccomp: 2.5.4"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder before all others on PATH: a broken runsc, an old runc, and this host's crun."""
    crun = shutil.which("crun", path=SEARCH)
    if os.geteuid() != 0 or crun is None:
        pytest.skip("needs root and crun")
    for name, said in (("runsc", BROKEN), ("runc", OLD)):
        (tmp_path / name).write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "{said}" && exit\nexit 3\n')
        (tmp_path / name).chmod(0o755)
    (tmp_path / "crun").symlink_to(crun)
    monkeypatch.setenv("PATH", f"{tmp_path}:{SEARCH}")
    return tmp_path


def test_the_strongest_that_works(programs: Path) -> None:
    info = find_runtime(programs / "state").info
    assert (info.name, info.path) == ("crun", programs / "crun")
    assert info.passed_over == (
        "runsc 20260101.0 does not work here: create: exit code 3",
        "runc 1.1.0 is too old: runc 1.3.6, 1.4.3, 1.5.0 or newer",
    )
    # One that is asked for by name is not second-guessed.
    assert find_runtime(programs / "state", name="runsc").info.passed_over == ()
    assert find_runtime(programs / "state", name="runc").info.version == "1.1.0"


def test_one_that_connects_its_runs(programs: Path) -> None:
    info = find_runtime(programs / "state", network=True).info
    assert info.name == "crun"
    assert info.passed_over[0].startswith("runsc 20260101.0 connects its runs to no network")


def test_what_is_not_there_or_says_nothing(programs: Path) -> None:
    (programs / "runsc").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(SandboxError, match="runsc is there but does not say its version"):
        find_runtime(programs / "state", name="runsc")
    with pytest.raises(SandboxError, match="no driver for the runtime 'lxc'; use auto, crun, runc, runsc"):
        find_runtime(programs / "state", name="lxc")
    (programs / "runsc").unlink()
    assert find_runtime(programs / "state").info.passed_over[0] == "runsc is not on PATH"


def test_who_is_ended_while_it_looks_leaves_nothing(programs: Path) -> None:
    (programs / "runsc").write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo "{BROKEN}" && exit\n'
        'case "$*" in *create*) kill -TERM $PPID; sleep 0.2;; esac\nexit 3\n'
    )
    folder = programs / "tmp"
    folder.mkdir()
    look = "import pathlib, sys, sandbox.runtimes.choose as c; c.find_runtime(pathlib.Path(sys.argv[1]))"
    ended = subprocess.run(
        [sys.executable, "-c", look, programs / "state"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        check=False,
    )
    assert ended.returncode == -signal.SIGTERM
    assert list(folder.iterdir()) == []
