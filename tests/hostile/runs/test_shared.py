"""What all containers of a host share, and the kernel counts to none of them: no run gets much of it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from sandbox.runtimes.cgroups import find_cgroups
from sandbox.runtimes.sockets import share_of
from tests.kit.programs import compiled
from tests.kit.runs import MIB, QUICK, Harbour, image_config

# Each level opens seven more, and holds them while those below it go on.
TERMINALS = """
deeper() {
  [ $1 -gt 0 ] || return 0
  ( exec 3<>/dev/ptmx 4<>/dev/ptmx 5<>/dev/ptmx 6<>/dev/ptmx 7<>/dev/ptmx 8<>/dev/ptmx 9<>/dev/ptmx
    ls /dev/pts | grep -c '^[0-9]'
    deeper $(($1 - 1)) )
}
deeper 12
exit 0
"""


@pytest.fixture
def hold(port: Harbour) -> Path:
    """A root folder with the program that has the kernel hold what it can."""
    root = port.rootfs()
    shutil.copy(compiled("hold", port.folder), root / "bin/hold")
    port.own(root)
    return root


async def test_datagrams_that_nobody_reads(port: Harbour, hold: Path) -> None:
    done = await port.run(image_config("/bin/hold", "datagrams"), root=hold)
    assert done.run.memory_peak_bytes is not None
    assert done.run.memory_peak_bytes <= QUICK.memory_bytes + MIB
    version_1 = find_cgroups().version == 1
    if port.own_kernel:
        # They are in that kernel's memory, which is the run's.
        assert done.run.reason in ("exited", "oom"), done.run
    elif version_1:
        held = re.fullmatch(r"held (\d+)\n", done.run.log)
        assert held, done.run
        assert int(held[1]) <= share_of(QUICK.memory_bytes)
    else:
        # There it is memory as any other.
        assert (done.run.reason, done.run.oom_killed) == ("oom", True), done.run
    (line,) = (one.detail or "" for one in done.mechanisms if one.name == "cgroup limits")
    assert (f"sockets {share_of(QUICK.memory_bytes)}" in line) is version_1


async def test_answers_of_the_kernel_that_nobody_reads(port: Harbour, hold: Path) -> None:
    done = await port.run(image_config("/bin/hold", "netlink"), root=hold)
    assert (done.run.reason, done.run.signal, done.run.oom_killed) == ("oom", 9, True), done.run


async def test_terminals(port: Harbour) -> None:
    done = await port.sh(TERMINALS)
    assert done.run.reason == "exited", done.run
    # A kernel of the run's own has terminals of its own.
    assert ("/dev/ptmx: No space left on device" in done.run.log) is not port.own_kernel
    counts = [int(line) for line in done.run.log.split() if line.isdigit()]
    assert counts == list(range(7, 85 if port.own_kernel else 64, 7))
