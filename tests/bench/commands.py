"""Programs that are called beside ours, and what they took of the clock and of processors."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

# podman's own defaults are above what a worker in a container may have.
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock, and of processors, this process and what it waited for."""
    began, spent = time.monotonic(), processor_seconds()
    work()
    return time.monotonic() - began, processor_seconds() - spent


def processor_seconds() -> float:
    """Of processors, by this process and all that it or its children waited for."""
    own, below = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum((own.ru_utime, own.ru_stime, below.ru_utime, below.ru_stime))


def run(*command: str, cwd: Path | None = None) -> None:
    """Call a program and wait.

    Raises:
        RuntimeError: it failed, with what it said.
    """
    # No pipe: what is created would hold it open.
    with tempfile.TemporaryFile() as said:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False, cwd=cwd
        )
        if done.returncode:
            said.seek(0)
            raise RuntimeError(f"{command}: {said.read()[-500:].decode()}")


@contextmanager
def podman_at(root: Path) -> Iterator[Sequence[str]]:
    """The beginning of its command lines, with storage of its own, emptied at the end."""
    command = [
        "podman", "--root", f"{root}/r", "--runroot", f"{root}/n", "--storage-driver", "vfs",
        "--cgroup-manager", "cgroupfs", "--runtime", "runc",
    ]  # fmt: skip
    try:
        yield command
    finally:
        subprocess.run([*command, "system", "reset", "--force"], capture_output=True, check=False)
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def in_memory(folder: Path) -> Iterator[None]:
    """``folder`` is a tmpfs meanwhile: what a disk takes, and whoever shares it, is in no figure."""
    folder.mkdir(mode=0o711, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "mode=711", "none", str(folder))
    try:
        yield
    finally:
        run("umount", str(folder))


@contextmanager
def before_others(*pids: int) -> Iterator[None]:
    """This session and those of ``pids`` go before all others, where the scheduler groups by sessions: what
    neighbours do meanwhile is in few figures then."""
    _prefer(-15, *pids)
    try:
        yield
    finally:
        _prefer(0, *pids)


def _prefer(nice: int, *pids: int) -> None:
    for pid in (os.getpid(), *pids):
        # Not every kernel does, and whoever is gone needs nothing.
        with suppress(OSError):
            Path(f"/proc/{pid}/autogroup").write_text(f"{nice}")
