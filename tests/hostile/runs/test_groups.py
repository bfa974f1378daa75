"""Control groups hold: processors, disks, and all runs of a worker together."""

from __future__ import annotations

import asyncio
import os

import pytest

from registry.contract.report import Mechanism
from sandbox.runtimes.cgroups import Cgroups, find_cgroups
from sandbox.runtimes.execute import Execution
from sandbox.runtimes.parent import Ceiling, make_parent
from tests.kit.runs import MIB, QUICK, Harbour

LIMITS = QUICK.model_copy(update={"wall_seconds": 60})


def mechanism(done: Execution, name: str) -> Mechanism:
    return next(one for one in done.mechanisms if one.name == name)


@pytest.fixture
def groups() -> Cgroups:
    return find_cgroups()


async def test_a_run_stays_on_its_processors(port: Harbour, groups: Cgroups) -> None:
    if "cpuset" not in groups.controllers():
        pytest.skip("needs the controller cpuset")
    own = max(os.sched_getaffinity(0))
    port.cpu_set = str(own)
    # As a worker does; runsc makes no group above its own ready for that.
    make_parent(groups, port.runtime.cgroup_parent, Ceiling(cpu_set=frozenset({own})))
    others = f"{1 << own ^ 0xFFFF:x}"
    done = await port.sh(
        f"grep Cpus_allowed_list /proc/self/status; busybox taskset {others} true || echo held"
    )
    if not port.own_kernel:
        # gVisor's processors are its own threads, which the group holds.
        assert done.run.log.splitlines()[0].split()[1] == str(own)
        assert done.run.log.splitlines()[-1] == "held"
    assert mechanism(done, "cpu set") == Mechanism(name="cpu set", applied=True, detail=f"processors {own}")


async def test_reads_and_direct_writes_keep_to_the_rate(port: Harbour) -> None:
    limits = LIMITS.model_copy(update={"io_bytes_per_second": 4 * MIB})
    write = "dd if=/dev/zero of=/tmp/f bs=64k count=128 oflag=direct"
    script = f"{write} && dd if=/tmp/f of=/dev/null bs=64k iflag=direct"
    done = await port.sh(script, limits=limits)
    assert mechanism(done, "block io").applied
    if port.own_kernel:
        # gVisor reads and writes by the host's cache, of which version 1 of control groups holds nothing.
        return
    # Twice 8 MiB at 4 MiB a second; the first moment is free.
    assert done.run.seconds > 3
    assert done.run.written_bytes is not None
    assert done.run.read_bytes is not None
    assert done.run.written_bytes >= 8 * MIB
    assert done.run.read_bytes >= 8 * MIB


async def test_use_is_kept(port: Harbour) -> None:
    limits = LIMITS.model_copy(update={"cpus": 0.05, "wall_seconds": 8})
    script = "sleep 99 & sleep 99 & while :; do :; done & while :; do :; done"
    done = await port.sh(script, limits=limits, spec={"expect": {"exit": 0}})
    assert done.run.throttled_seconds
    assert done.run.pids_peak is not None
    assert done.run.pids_peak >= 4
    assert done.run.limits is not None
    assert (done.run.limits.cpus, done.run.limits.wall_seconds) == (0.05, 8)


async def test_processes_that_it_may_not_begin_are_counted(port: Harbour) -> None:
    limits = LIMITS.model_copy(update={"pids": 16})
    script = "for n in $(seq 30); do sleep 9 & done; sleep 9"
    done = await port.sh(script, limits=limits, spec={"expect": {"exit": 0}})
    assert done.run.limits is not None
    assert done.run.limits.pids is not None
    assert done.run.pids_peak is not None
    assert done.run.pids_peak <= done.run.limits.pids
    if not port.own_kernel:
        # gVisor's processes are its own, and it refuses none of those of the image.
        assert done.run.pids_refused


async def test_all_runs_together_keep_to_the_ceiling(port: Harbour, groups: Cgroups) -> None:
    make_parent(groups, port.runtime.cgroup_parent, Ceiling(memory_bytes=48 * MIB, pids=40))
    done = await port.sh("exec tail /dev/zero")
    assert done.error is not None
    assert (done.error.reason, done.error.retryable) == ("worker-error", True)
    assert "all runs of the worker together" in done.error.message
    assert "all runs together: memory 50331648, pids 40" in mechanism(done, "cgroup limits").detail
    limits = LIMITS.model_copy(update={"wall_seconds": 3})
    bombs = ("b() { b | b & b; }; b", "b() { b | b & b; }; b")
    for bomb in await asyncio.gather(
        *(port.sh(one, limits=limits, spec={"expect": {"exit": 0}}) for one in bombs), return_exceptions=True
    ):
        # Where its neighbour holds every process of the ceiling, a run cannot even be made.
        if isinstance(bomb, Execution):
            assert bomb.run.pids_peak is not None
            # Each processor may count a process before it finds that the group above has no room for it.
            assert bomb.run.pids_peak <= 40 + (os.cpu_count() or 1)
    raised = make_parent(groups, port.runtime.cgroup_parent, Ceiling(memory_bytes=256 * MIB, pids=400))
    assert (raised.memory_bytes, raised.pids) == (256 * MIB, 400)
    assert (await port.sh("exec tail /dev/zero")).run.reason == "oom"
