"""The parts of ``create`` by the runtime's hook, and the one figure where it does not call it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from sandbox.ids import IdRange
from sandbox.runtimes.hooks import CreateHook, make_hook, timed_create

OWN = IdRange(os.geteuid(), 1)


def made(folder: Path) -> CreateHook:
    hook = make_hook(folder, OWN)
    assert hook is not None
    return hook


def test_a_hook_that_is_called_divides_the_time(tmp_path: Path) -> None:
    hook = made(tmp_path)
    (call,) = hook.document()["createContainer"]  # type: ignore[misc]

    def create() -> None:
        time.sleep(0.05)
        with subprocess.Popen(call["args"], executable=call["path"], stdin=subprocess.PIPE) as hooked:
            assert hooked.stdin is not None
            # More than a pipe takes: a hook that does not read breaks it, and with it crun's `create`.
            hooked.stdin.write(b"{}" * 100_000)
        assert hooked.returncode == 0
        time.sleep(0.05)

    before, after = timed_create(hook, create)
    assert before.name == "assign namespaces, mount, set resource limits"
    assert after.name == "pivot_root, give up privileges"
    # A tick of the clock may be missing in each.
    assert before.seconds > 0.03
    assert after.seconds > 0.03


def test_a_hook_that_is_not_called_leaves_one_figure(tmp_path: Path) -> None:
    (whole,) = timed_create(made(tmp_path), lambda: time.sleep(0.01))
    assert whole.name == "create: namespaces, mounts, limits, pivot_root, privileges"
    assert whole.seconds >= 0.01


def test_a_time_from_outside_of_create_is_not_believed(tmp_path: Path) -> None:
    hook = made(tmp_path)
    os.utime(hook.file, ns=(0, time.time_ns() + 10**12))
    assert len(timed_create(hook, lambda: None)) == 1


def test_without_the_program_there_is_one_figure() -> None:
    assert len(timed_create(None, lambda: None)) == 1
