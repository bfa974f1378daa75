"""Evil images from end to end: a verdict that is no pass, with a reason that a person understands; and the
host is what it was: settings, descriptors, mounts, loop devices, processes, control groups, the canary."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.contract.judge import judge
from registry.contract.limits import Limits, PrepareLimits
from registry.contract.report import Report
from sandbox.attempt import Workplace
from sandbox.runtimes.cgroups import find_cgroups, group_names
from tests.hostile.images.conftest import mounts_and_loops, processes
from tests.kit.evilimages import EVIL, HARMLESS, MIB
from tests.kit.hoststate import host_state
from tests.kit.images import Image, busybox_image, write_layout
from tests.kit.trying import own_workplace, try_layout

# Small, so that a bomb ends soon; every reason is the same with large ones.
PREPARE = PrepareLimits(unpacked_bytes=96 * MIB, files=2000, seconds=200)
# Those that run end by themselves, however long that takes.
LIMITS = Limits(alive_seconds=50, wall_seconds=60, memory_bytes=64 * MIB, pids=64)
# What tells of our insides and not of the image.
INSIDES = re.compile(r"Traceback|Error\b|Exception|errno|\.py\b|/tmp/|0x[0-9a-f]{6}")


@pytest.fixture(scope="module")
def workplace() -> Iterator[Workplace]:
    """A state folder of its own; the images share the snapshot of their first layer."""
    with own_workplace() as opened:
        yield opened


async def tried(image: Image, folder: Path, workplace: Workplace, limits: Limits = LIMITS) -> Report:
    write_layout(folder / "layout", image)
    before = host(workplace)
    report = await try_layout(f"{folder / 'layout'}", workplace, limits=limits, prepare=PREPARE)
    assert list((workplace.state / "runs").iterdir()) == []
    # The kernel lets go of a loop device some moments after its last user.
    deadline_at = time.monotonic() + 30
    while host(workplace) != before and time.monotonic() < deadline_at:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    assert host(workplace) == before
    return report


def host(workplace: Workplace) -> tuple[object, ...]:
    """What of the host a trial could leave behind or change."""
    where, runtime = str(workplace.state), workplace.runtime
    groups = group_names(find_cgroups(), runtime.cgroup_parent)
    return host_state(), mounts_and_loops(where), sorted(processes(where)), groups, list(runtime.list_runs())


@pytest.mark.parametrize("name", EVIL)
async def test_a_report_with_a_reason(name: str, tmp_path: Path, workplace: Workplace) -> None:
    evil = EVIL[name]
    report = await tried(evil.image(), tmp_path, workplace)
    verdict = judge(report)
    assert (verdict.verdict, report.error is None) == ("error", False), verdict
    assert report.error is not None
    assert report.error.reason == evil.reason, report.error
    assert evil.words in report.error.message, report.error
    assert INSIDES.search(report.error.message) is None, report.error
    assert len(report.error.message) < 1000
    assert not report.error.retryable


@pytest.mark.parametrize("name", HARMLESS)
async def test_odd_but_harmless(name: str, tmp_path: Path, workplace: Workplace) -> None:
    report = await tried(HARMLESS[name](), tmp_path, workplace)
    assert judge(report).verdict == "pass", report
    assert report.runs[0].log == "started\n"


async def test_a_registry_that_permits_output_without_end(tmp_path: Path, workplace: Workplace) -> None:
    """It is kept in the memory of the worker's host, of which no limit of the run takes care."""
    limits = LIMITS.model_copy(update={"log_bytes": 1 << 60})
    image = busybox_image(("sh", "-c", "head -c 30000000 /dev/zero | tr '\\0' 'a'; sleep 600"))
    report = await tried(image, tmp_path, workplace, limits)
    assert report.runs[0].reason == "log-full", report
    assert "more than 4194304 bytes of output" in judge(report).reason
