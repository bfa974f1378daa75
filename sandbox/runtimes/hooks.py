"""When the parts of ``create`` were done, as the runtime's own hook tells it (runtime-spec, "POSIX hooks").

The hook is the host's ``dd`` from its standard input into a file of the run, whose time of change is the
moment, to a tick of the kernel's clock (1 to 10 ms). It reads what it is given, since crun fails with a
broken pipe where its hook ends before that. A runtime that does not call the hook leaves the file, and
``create`` stays one figure.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from registry.contract.report import Step
from sandbox.ids import IdRange

HOOK_PIDS = 16
"""A hook is a process of the run, beside the threads of the runtime: a run that may have fewer has none."""
_SEARCH = "/usr/bin:/bin"
_SECONDS = 10
_BEFORE = "assign namespaces, mount, set resource limits"
_AFTER = "pivot_root, give up privileges"
_WHOLE = "create: namespaces, mounts, limits, pivot_root, privileges"


@dataclass(frozen=True, slots=True)
class CreateHook:
    """``createContainer``: called in the run's own namespaces, just before pivot_root."""

    program: str
    file: Path

    def document(self) -> dict[str, object]:
        """``hooks`` of the bundle."""
        args = ["dd", f"of={self.file}", "conv=notrunc,nocreat", "status=none"]
        call = {"path": self.program, "args": args, "timeout": _SECONDS}
        return {"createContainer": [call]}


def make_hook(folder: Path, ids: IdRange) -> CreateHook | None:
    """Make the hook's file in ``folder``, which belongs to this run alone; the hook runs as the run's root.

    ``None`` where the host has no ``dd``.
    """
    program = shutil.which("dd", path=_SEARCH)
    if program is None:
        return None
    file = folder / "created"
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.fchown(fd, ids.base, ids.base)
        # Long before any run: a file that no hook writes shows itself.
        os.utime(fd, ns=(0, 0))
    finally:
        os.close(fd)
    return CreateHook(program, file)


def timed_create(hook: CreateHook | None, create: Callable[[], None]) -> tuple[Step, ...]:
    """Call ``create`` and say how long its parts took."""
    began = time.time_ns()
    create()
    ended = time.time_ns()
    called = 0 if hook is None else hook.file.stat().st_mtime_ns
    if not began <= called <= ended:
        return (_step(_WHOLE, began, ended),)
    return (_step(_BEFORE, began, called), _step(_AFTER, called, ended))


def _step(name: str, began_ns: int, ended_ns: int) -> Step:
    return Step(name=name, seconds=max(0, ended_ns - began_ns) / 1e9)
