"""Storms inside a run: each stays within the run's limits, and the host is as it was.

How long a fork on the host took meanwhile is printed by each test and no condition: other tests run too.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandbox.runtimes.ownkernel import spare_pids
from tests.kit.hoststate import host_state
from tests.kit.programs import is_here, put_program
from tests.kit.runs import MIB, Harbour, image_config
from tests.kit.runs import QUICK as _QUICK

QUICK = _QUICK.model_copy(update={"wall_seconds": 8, "log_bytes": 200_000})
STORMS = {
    "processes": "--fork 4 --fork-max 64",
    "processes without copies": "--vfork 4 --vfork-max 64",
    "programs": "--exec 4",
    "threads": "--pthread 4",
    "zombies": "--zombie 4 --zombie-max 1000",
    "memory": "--vm 2 --vm-bytes 300m --vm-populate",
    "stacks and heaps": "--brk 2 --stack 2",
    "shared memory": "--shm 2 --shm-sysv 2",
    "bytes on disk": "--hdd 2 --hdd-bytes 64m",
    "inodes": "--dentry 2 --dentries 100000 --dir 2",
    "links and names": "--link 1 --symlink 1 --rename 2",
    "sockets": "--sock 2 --sockpair 2 --udp 2",
    "descriptors": "--open 2 --pipe 2 --epoll 1 --eventfd 1",
    "signals": "--kill 2 --sigq 2 --sigabrt 1 --sigsegv 1",
    "timers": "--timer 1 --timerfd 1 --itimer 1 --alarm 1",
    "processor": "--cpu 4 --switch 2 --yield 2",
    "terminals": "--pty 2",
    "semaphores": "--sem 2 --sem-sysv 2 --futex 2",
    "mappings": "--mmap 2 --mremap 1 --mprotect 1 --madvise 1",
    "calls that are not there": "--enosys 2 --sysbadaddr 2",
    "namespaces and keys": "--clone 2 --key 1 --userfaultfd 1 --seccomp 1 --personality 1",
}


def program_root(port: Harbour, *programs: str) -> Path:
    """A root folder with programs of this host and the libraries that they load."""
    root = port.rootfs()
    for one in programs:
        if not is_here(one):
            pytest.skip(f"needs {one}; CI has it")
        put_program(one, root)
    (root / "small").mkdir()
    port.own(root)
    (root / "small").chmod(0o777)
    return root


@contextmanager
def small(root: Path, port: Harbour) -> Iterator[Path]:
    """The same with room for 16 MiB and 2,000 names more: the writable layer of a run is bounded too."""
    files = [path.lstat() for path in root.rglob("*")]
    size = sum(one.st_blocks * 512 for one in files) + 16 * MIB
    target = port.folder / "small"
    target.mkdir()
    options = f"size={size},nr_inodes={len(files) + 2000},mode=755,nosuid,nodev"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "small", str(target)], check=True)
    try:
        subprocess.run(["cp", "-a", f"{root}/.", str(target)], check=True)
        yield target
    finally:
        subprocess.run(["umount", str(target)], check=True)
        target.rmdir()


async def forks(milliseconds: list[float]) -> None:
    """How long the host takes to fork, over and over."""
    while True:
        started = time.monotonic()
        await asyncio.to_thread(subprocess.run, ["/bin/true"], check=True)
        milliseconds.append((time.monotonic() - started) * 1000)
        await asyncio.sleep(0.05)


async def stormed(port: Harbour, root: Path, *command: str, user: str = "") -> None:
    before = host_state()
    milliseconds: list[float] = []
    watching = asyncio.create_task(forks(milliseconds))
    try:
        with small(root, port) as bounded:
            done = await port.run(image_config(*command, user=user), root=bounded, limits=QUICK)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    run = done.run
    assert run.reason in ("exited", "oom", "signal", "log-full", "timeout", "disk-full"), run
    assert run.memory_peak_bytes is not None
    # The kernel gives itself a few pages beyond, where it cannot wait for any.
    assert run.memory_peak_bytes <= QUICK.memory_bytes + MIB
    # A kernel of its own holds the run to its number; the host counts that kernel's threads as well. And each
    # processor may be counting one that there is no room for, when that is looked at.
    own = spare_pids(QUICK.pids) if port.own_kernel else 0
    assert run.pids_peak is None or run.pids_peak <= QUICK.pids + own + (os.cpu_count() or 1)
    assert "not found" not in run.log, run.log
    took = sorted(milliseconds) or [0.0]
    print(f"{run.reason}; fork and exec on the host: {took[len(took) // 2]:.0f} ms, at most {took[-1]:.0f}")
    assert host_state() == before


@pytest.mark.parametrize("storm", STORMS)
async def test_stress(storm: str, port: Harbour) -> None:
    root = program_root(port, "stress-ng")
    arguments = [*STORMS[storm].split(), "--temp-path", "/small"]
    await stormed(
        port,
        root,
        "/usr/bin/stress-ng",
        "--timeout",
        "1s",
        *arguments,
        user="1000:1000",
    )


@pytest.mark.parametrize("user", ["", "1000:1000"])
async def test_random_system_calls(user: str, port: Harbour) -> None:
    root = program_root(port, "trinity")
    rights = ("--dangerous",) if not user else ()
    command = ("/usr/bin/trinity", "-q", "-l", "off", "-N", "30000", "-C", "4", *rights)
    await stormed(port, root, "/bin/sh", "-c", f"cd /small && exec {' '.join(command)}", user=user)


STORM_SCRIPTS = {
    "log": "yes storm",
    "log in one line": "cat /dev/zero",
    "log by many": "for i in 1 2 3 4 5 6 7 8; do yes $i & done; wait",
    "signals to all": (
        "trap '' TERM HUP INT; for i in 1 2 3 4 5 6 7 8 9; do kill -KILL -1; done; yes >/dev/null & wait"
    ),
    "orphans": "for i in $(seq 200); do (setsid sleep 100 &) done; exit 0",
    "files without names": (
        "i=0; while exec 9>/small/f$i; do rm /small/f$i; dd if=/dev/zero bs=1M count=4 >&9; i=$((i+1)); done"
    ),
    "folders as deep as they go": "cd /small; while mkdir d 2>/dev/null && cd d; do :; done; exit 0",
}


@pytest.mark.parametrize("storm", STORM_SCRIPTS)
async def test_scripts(storm: str, port: Harbour) -> None:
    root = program_root(port)
    await stormed(port, root, "/bin/sh", "-c", STORM_SCRIPTS[storm])
