"""Control groups on trees of plain files: version 1, version 2 beside it, and version 2 alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.contract.limits import MIB, Limits
from registry.errors import RequestInvalidError
from sandbox.errors import SandboxError
from sandbox.runtimes.cgroups import Cgroups, kill_group, why_no_limits
from sandbox.runtimes.disks import disk_of
from sandbox.runtimes.held import block_io_line, cpu_set_line
from sandbox.runtimes.outcome import oom_of_others
from sandbox.runtimes.parent import Ceiling, default_ceiling, make_parent, parse_processors
from sandbox.runtimes.readings import (
    AppliedLimits,
    Usage,
    format_cpu_set,
    parse_cpu_set,
    read_level,
    read_limits,
    read_usage,
)

V1 = ("memory", "cpu", "cpuacct", "cpuset", "pids", "blkio")
PARENT, RUN = "/seatrial/w", "/seatrial/w/run"
STAT = "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 0\n7:1 Read 1\nTotal 12289\n"


def tree(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def version_1(root: Path, *, unified: bool = False) -> Cgroups:
    for controller in V1:
        for path in (PARENT, RUN):
            tree(root / controller / path.lstrip("/"), {"cgroup.procs": "7\n" if path == RUN else ""})
    return Cgroups({name: root / name for name in V1}, root / "unified" if unified else None)


@pytest.mark.parametrize("unified", [False, True])
def test_version_1_reads_limits_and_usage(tmp_path: Path, unified: bool) -> None:
    cgroups = version_1(tmp_path, unified=unified)
    tree(
        tmp_path,
        {
            f"memory{RUN}/memory.limit_in_bytes": "1000\n",
            f"memory{RUN}/memory.memsw.limit_in_bytes": "1000\n",
            f"memory{RUN}/memory.max_usage_in_bytes": "900\n",
            f"memory{RUN}/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
            f"cpu{RUN}/cpu.cfs_quota_us": "50000\n",
            f"cpu{RUN}/cpu.cfs_period_us": "100000\n",
            f"cpu{RUN}/cpu.stat": "nr_periods 5\nnr_throttled 4\nthrottled_time 1500000000\n",
            f"cpuacct{RUN}/cpuacct.usage": "2000000000\n",
            f"cpuset{RUN}/cpuset.effective_cpus": "0-1,3\n",
            f"pids{RUN}/pids.max": "64\n",
            f"pids{RUN}/pids.peak": "9\n",
            f"pids{RUN}/pids.events": "max 3\n",
            f"blkio{RUN}/blkio.throttle.read_bps_device": "8:0 500\n",
            f"blkio{RUN}/blkio.throttle.write_bps_device": "8:0 600\n8:16 1\n",
            f"blkio{RUN}/blkio.throttle.io_service_bytes_recursive": STAT,
        },
    )
    assert cgroups.version == 1
    rates = {"8:0": (500, 600), "8:16": (None, 1)}
    assert read_limits(cgroups, RUN, 7) == AppliedLimits(1000, 0, 64, 0.5, frozenset({0, 1, 3}), rates)
    assert read_limits(cgroups, RUN, 8) == AppliedLimits(None, None, None, None)
    assert read_usage(cgroups, RUN) == Usage(2, 900, 2.0, 1.5, 9, 4097, 8192, 3)


def test_version_2_reads_limits_and_usage(tmp_path: Path) -> None:
    tree(
        tmp_path / RUN.lstrip("/"),
        {
            "cgroup.procs": "7\n",
            "memory.max": "1000\n",
            "memory.swap.max": "0\n",
            "memory.peak": "900\n",
            "memory.events": "max 3\noom 1\noom_kill 1\n",
            "pids.max": "64\n",
            "pids.peak": "9\n",
            "pids.events": "max 3\n",
            "cpu.max": "50000 100000\n",
            "cpu.stat": "usage_usec 2000000\nthrottled_usec 1500000\n",
            "cpuset.cpus.effective": "1\n",
            "io.max": "8:0 rbps=500 wbps=600 riops=max wiops=max\n",
            "io.stat": "8:0 rbytes=4096 wbytes=8192 rios=1\n7:0 rbytes=1 wbytes=0\n",
        },
    )
    cgroups = Cgroups({}, tmp_path)
    applied = AppliedLimits(1000, 0, 64, 0.5, frozenset({1}), {"8:0": (500, 600)})
    assert read_limits(cgroups, RUN, 7) == read_limits(cgroups, RUN, None) == applied
    assert read_usage(cgroups, RUN) == Usage(1, 900, 2.0, 1.5, 9, 4097, 8192, 3)


def test_what_an_older_kernel_does_not_say_is_not_known(tmp_path: Path) -> None:
    tree(tmp_path / RUN.lstrip("/"), {"cgroup.procs": "7\n"})
    assert read_usage(Cgroups({}, tmp_path), RUN) == Usage(0, None, None)


def test_the_parent_of_version_1(tmp_path: Path) -> None:
    cgroups = version_1(tmp_path)
    tree(
        tmp_path,
        {
            f"memory{PARENT}/memory.memsw.limit_in_bytes": "",
            "memory/memory.memsw.limit_in_bytes": "",
            f"cpu{PARENT}/cpu.cfs_period_us": "100000",
            "cpuset/cpuset.cpus": "0-3\n",
            "cpuset/cpuset.mems": "0\n",
            "cpuset/seatrial/cpuset.cpus": "\n",
            "cpuset/seatrial/cpuset.mems": "\n",
            f"cpuset{PARENT}/cpuset.cpus": "\n",
            f"cpuset{PARENT}/cpuset.mems": "\n",
            f"cpuset{PARENT}/cpuset.effective_cpus": "0-1\n",
        },
    )
    applied = make_parent(cgroups, PARENT, Ceiling(64 * MIB, 100, 1.5, frozenset({0, 1})))
    assert (applied.memory_bytes, applied.swap_bytes, applied.pids, applied.cpus) == (64 * MIB, 0, 100, 1.5)
    # A new group has none of either, and the one above it must have what is given to it.
    assert (tmp_path / "cpuset/seatrial/cpuset.cpus").read_text() == "0-3\n"
    assert (tmp_path / f"cpuset{PARENT}/cpuset.mems").read_text() == "0\n"
    assert (tmp_path / f"cpuset{PARENT}/cpuset.cpus").read_text() == "0,1"


def test_the_parent_of_version_2(tmp_path: Path) -> None:
    tree(tmp_path, {"cgroup.subtree_control": "", f"{PARENT.lstrip('/')}/cpuset.cpus.effective": "0\n"})
    applied = make_parent(Cgroups({}, tmp_path), PARENT, Ceiling(64 * MIB, 100, 1.5, frozenset({0, 1})))
    assert applied == AppliedLimits(64 * MIB, None, 100, 1.5, frozenset({0}))
    for above in (tmp_path, tmp_path / "seatrial"):
        assert (above / "cgroup.subtree_control").read_text().startswith("+")


def test_a_parent_that_does_not_hold_is_refused(tmp_path: Path) -> None:
    tree(tmp_path, {f"{PARENT.lstrip('/')}/cpuset.cpus.effective": "0-3\n"})
    with pytest.raises(SandboxError, match="ceiling of processors") as caught:
        make_parent(Cgroups({}, tmp_path), PARENT, Ceiling(cpu_set=frozenset({0, 1})))
    assert caught.value.reason == "isolation-missing"
    (tmp_path / "seatrial/w/cpuset.cpus.effective").unlink()
    with pytest.raises(SandboxError, match="ceiling of processors"):
        make_parent(Cgroups({}, tmp_path), PARENT, Ceiling(cpu_set=frozenset({0, 1})))


def test_a_group_that_was_handed_to_a_plain_user(tmp_path: Path) -> None:
    tree(tmp_path, {"cgroup.controllers": "cpu memory pids\n", "cgroup.procs": ""})
    handed = Cgroups({}, tmp_path, "/user.slice/worker.scope")
    assert why_no_limits(handed, privileged=False) is None
    assert "without root" in (why_no_limits(Cgroups({}, tmp_path), privileged=False) or "")
    tree(tmp_path, {"cgroup.procs": "12\n"})
    assert "/user.slice/worker.scope has other processes" in (why_no_limits(handed, privileged=False) or "")
    tree(tmp_path, {"cgroup.controllers": "memory pids\n", "cgroup.procs": ""})
    assert why_no_limits(handed, privileged=False) == "no cgroup controller for cpu"


def test_all_that_a_container_sees_is_a_group_too(tmp_path: Path) -> None:
    seen = {"cgroup.controllers": "cpu memory pids\n", "cgroup.procs": "1\n"}
    tree(tmp_path, seen)
    assert why_no_limits(Cgroups({}, tmp_path), privileged=True) is None
    tree(tmp_path, {"cgroup.type": "domain\n"})
    said = why_no_limits(Cgroups({}, tmp_path), privileged=True)
    assert said is not None
    assert said.startswith("the cgroup of this container has other processes")


def test_the_default_ceiling_leaves_something_to_the_host() -> None:
    ceiling = default_ceiling(Cgroups({}, None))
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert ceiling.memory_bytes is not None
    assert total // 2 <= ceiling.memory_bytes < total
    assert ceiling.pids


def test_the_default_ceiling_is_within_the_group_that_was_handed_out(tmp_path: Path) -> None:
    group = tmp_path / "system.slice/worker.service"
    tree(tmp_path, {"memory.max": f"{MIB}\n", "system.slice/pids.max": "max\n"})
    tree(group, {"cgroup.type": "domain\n", "memory.max": "max\n", "pids.max": "4096\n"})
    tree(tmp_path / "system.slice", {"memory.max": f"{2048 * MIB}\n"})
    # What is above the mount point is another's, and the true root has no limits.
    within = default_ceiling(Cgroups({}, group, "/system.slice/worker.service"))
    assert within == Ceiling(memory_bytes=1536 * MIB, pids=3840)
    tree(group, {"memory.max": f"{512 * MIB}\n", "pids.max": "100\n"})
    assert default_ceiling(Cgroups({}, group)) == Ceiling(memory_bytes=256 * MIB, pids=50)


@given(st.frozensets(st.integers(0, 300), min_size=1))
def test_a_set_of_processors_survives_its_text(cpus: frozenset[int]) -> None:
    assert parse_cpu_set(format_cpu_set(cpus)) == cpus


def test_processors_exist_or_are_refused() -> None:
    own = os.sched_getaffinity(0)
    assert parse_processors(format_cpu_set(own)) == own
    for text in ("", "x", "1-", "-1", "2-1", "0-99999999", str(max(own) + 1)):
        with pytest.raises(RequestInvalidError, match="--cpu-set"):
            parse_processors(text)


def test_a_run_off_its_processors_is_refused() -> None:
    assert not cpu_set_line(AppliedLimits(1, 0, 1, 1.0), None).applied
    assert cpu_set_line(AppliedLimits(1, 0, 1, 1.0, frozenset({1})), "1-2").applied
    for seen in (None, frozenset({0}), frozenset({1, 3})):
        with pytest.raises(SandboxError, match="not kept to the processors"):
            cpu_set_line(AppliedLimits(1, 0, 1, 1.0, seen), "1-2")


def test_a_disk_rate_that_is_not_held_is_refused() -> None:
    limits = Limits(io_bytes_per_second=MIB)
    held = AppliedLimits(1, 0, 1, 1.0, None, {"8:0": (MIB, MIB)})
    assert not block_io_line(held, Limits(), (8, 0), version=1).applied
    assert "holds reads and direct writes" in block_io_line(held, limits, (8, 0), version=1).detail
    assert "direct" not in block_io_line(held, limits, (8, 0), version=2).detail
    with pytest.raises(SandboxError, match="no one disk"):
        block_io_line(held, limits, None, version=2)
    for rates in ({}, {"8:0": (MIB, None)}, {"8:0": (MIB + 1, MIB)}, {"8:16": (MIB, MIB)}):
        with pytest.raises(SandboxError, match="does not hold"):
            block_io_line(AppliedLimits(1, 0, 1, 1.0, None, rates), limits, (8, 0), version=2)


def test_the_disk_below_a_partition(tmp_path: Path) -> None:
    number = os.stat(tmp_path).st_dev
    name = f"{os.major(number)}:{os.minor(number)}"
    assert disk_of(tmp_path, devices=tmp_path) is None
    tree(tmp_path, {"disk/dev": "8:0\n", "disk/part/partition": "1\n", "disk/part/dev": f"{name}\n"})
    (tmp_path / name).symlink_to("disk/part")
    assert disk_of(tmp_path, devices=tmp_path) == (None if os.major(number) == 0 else (8, 0))


def test_an_end_for_want_of_memory_below_the_own_limit_is_nobodys_fault() -> None:
    limits = Limits(memory_bytes=64 * MIB)
    assert oom_of_others(Usage(1, 40 * MIB, None), limits)
    assert not oom_of_others(Usage(1, 64 * MIB - 4096, None), limits)
    assert not oom_of_others(Usage(0, 40 * MIB, None), limits)
    assert not oom_of_others(Usage(1, None, None), limits)


@pytest.mark.parametrize("unified", [False, True])
def test_a_group_is_thawed_and_killed_at_once(tmp_path: Path, unified: bool) -> None:
    below = f"{RUN.lstrip('/')}/below"
    folder = tmp_path if unified else tmp_path / "memory"
    cgroups = Cgroups({}, folder) if unified else Cgroups({"memory": folder}, None)
    for path in (RUN.lstrip("/"), below):
        names = {"cgroup.kill": ""} if unified else {"freezer.state": "FROZEN"}
        tree(folder / path, names | {"cgroup.procs": ""})
    kill_group(cgroups, RUN)
    for path in (RUN.lstrip("/"), below):
        file = folder / path / ("cgroup.kill" if unified else "freezer.state")
        assert file.read_text() == ("1" if unified else "THAWED")


def test_what_a_group_holds_now(tmp_path: Path) -> None:
    cgroups = version_1(tmp_path)
    tree(tmp_path, {f"memory{RUN}/memory.usage_in_bytes": "700\n", f"pids{RUN}/pids.current": "3\n"})
    assert read_level(cgroups, RUN) == (700, 3)
    tree(tmp_path / "two", {f"{RUN[1:]}/memory.current": "70\n"})
    assert read_level(Cgroups({}, tmp_path / "two"), RUN) == (70, None)
