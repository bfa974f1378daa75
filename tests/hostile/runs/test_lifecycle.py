"""Whoever is killed or gives up: nothing of a run stays."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.errors import SandboxError
from sandbox.runtimes.cgroups import find_cgroups, members
from sandbox.runtimes.choose import find_runtime
from sandbox.runtimes.sweep import forget, sweep
from sandbox.syscalls import mount, unmount
from tests.kit.processes import children_of, kill_with_its_supervisors
from tests.kit.runs import QUICK, Harbour, image_config, runtime_name, seen
from tests.kit.runtime_contract import has_begun, until

LONG = QUICK.model_copy(update={"alive_seconds": 100, "wall_seconds": 100})


WORKER = """
import asyncio, pathlib, sys
from sandbox.ids import IdRange
from sandbox.runtimes.choose import find_runtime
from sandbox.runtimes.spawn import Supervisors
from tests.kit.runs import QUICK, Harbour, image_config, runtime_name
folder = pathlib.Path(sys.argv[1])
runtime = find_runtime(folder / "state", name=runtime_name())
harbour = Harbour(folder, runtime, Supervisors(), IdRange(int(sys.argv[2])))
limits = QUICK.model_copy(update={"alive_seconds": 100, "wall_seconds": 100})
asyncio.run(harbour.run(image_config("/bin/sleep", "1000"), limits=limits))
"""


TEARDOWN = """
import pathlib, sys
from dataclasses import replace
from registry.contract.limits import Limits
from registry.contract.plan import make_plan
from sandbox.ids import IdRange
from sandbox.runtimes.cgroups import find_cgroups
from sandbox.runtimes.choose import find_runtime
from sandbox.runtimes.job import RunJob
from sandbox.runtimes.supervisor import _teardown
from sandbox.runtimes.underway import Underway
from tests.kit.runs import image_config
folder = pathlib.Path(sys.argv[1])
runtime = find_runtime(folder / "state", name="runc")
runtime = replace(runtime, info=replace(runtime.info, path=pathlib.Path("/bin/false")))
config = image_config("/bin/true")
plan = make_plan(config, None, limits=Limits(), ceiling=Limits(), image_spec_allowed=False)
job = RunJob(plan, config, folder, folder, "run1", 100000, 65536, runtime.info, runtime.state, ())
print(_teardown(Underway(job, runtime, find_cgroups(), lambda: False)))
"""


async def start_worker(port: Harbour) -> asyncio.subprocess.Process:
    """A process of its own with one run that has begun."""
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, str(port.folder), str(port.ids.base), cwd=Path(__file__).parents[3]
    )
    group = f"{port.runtime.cgroup_parent}/run1"
    await until(lambda: has_begun(group, own_kernel=port.own_kernel))
    return worker


def children(pid: int, word: bytes) -> list[int]:
    """Children of a process with a word in their command line."""
    return [child for child in children_of(pid) if word in Path(f"/proc/{child}/cmdline").read_bytes()]


def templates() -> list[int]:
    """Process ids of what supervisors of this test process are forked from."""
    return children(os.getpid(), b"runtimes.template")


def supervisors() -> list[int]:
    """Process ids of supervisors of this test process."""
    return [pid for template in templates() for pid in children_of(template)]


async def test_cancel(port: Harbour) -> None:
    task = asyncio.create_task(port.run(image_config("/bin/sleep", "1000"), limits=LONG))
    await until(lambda: list(port.processes()))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not port.host().processes)
    assert port.host().states == port.host().groups == ()


def test_a_container_that_stays_keeps_nothing_else_of_its_run(port: Harbour) -> None:
    held = port.folder / "state/run1/held"
    held.mkdir(parents=True)
    mount("none", str(held), "tmpfs")
    cgroups = find_cgroups()
    for root in (*cgroups.by_controller.values(), *((cgroups.unified,) if cgroups.unified else ())):
        (root / f"{port.runtime.cgroup_parent.lstrip('/')}/run1").mkdir(parents=True)
    try:
        done = subprocess.run(
            [sys.executable, "-c", TEARDOWN, str(port.folder)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[3],
        )
    finally:
        unmount(str(held))
        shutil.rmtree(port.folder / "state/run1")
    assert done.stdout == "the run's container could not be removed\n"
    assert cgroups.folders(f"{port.runtime.cgroup_parent}/run1") == ()


async def test_two_cancels_do_not_hurry_the_teardown(port: Harbour) -> None:
    task = asyncio.create_task(port.run(image_config("/bin/sleep", "1000"), limits=LONG))
    await until(lambda: list(port.processes()))
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not port.host().processes)
    assert port.host().states == port.host().groups == ()


async def test_a_killed_template_ends_no_run_and_is_made_anew(port: Harbour) -> None:
    task = asyncio.create_task(port.sh("sleep 3; cat /proc/self/status > /dev/null"))
    await until(lambda: list(port.processes()) and len(supervisors()) == 1)
    (pid,) = supervisors()
    assert Path(f"/proc/{pid}/comm").read_text() == "supervisor\n"
    # Nothing of the worker's.
    assert Path(f"/proc/{pid}/environ").read_bytes() == b"PYDANTIC_DISABLE_PLUGINS=__all__\0"
    for template in templates():
        os.kill(template, signal.SIGKILL)
    assert seen(await port.sh("exit 0")) == [True]
    assert seen(await task) == [True]
    # Of those that have ended nothing is left but the one they came from.
    await until(lambda: len(templates()) == 1)
    await until(lambda: not supervisors())


async def test_a_killed_supervisor_leaves_nothing(port: Harbour) -> None:
    task = asyncio.create_task(port.run(image_config("/bin/sleep", "1000"), limits=LONG))
    await until(lambda: list(port.processes()))
    for pid in supervisors():
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(SandboxError, match="supervisor") as caught:
        await task
    assert (caught.value.reason, caught.value.retryable) == ("worker-error", True)


async def test_sweep_removes_what_a_dead_worker_left(port: Harbour) -> None:
    before = port.host()
    worker = await start_worker(port)
    kill_with_its_supervisors(worker.pid)
    await worker.wait()
    assert list(port.processes())
    found = await asyncio.to_thread(sweep, port.runtime)
    assert len(found) == 1
    await until(lambda: not port.host().processes)
    after = port.host()
    assert (after.groups, after.states) == ((), ())
    assert before.mounts == after.mounts
    assert await asyncio.to_thread(sweep, port.runtime) == ()


async def test_a_worker_that_dies_takes_its_runs_along(port: Harbour) -> None:
    worker = await start_worker(port)
    worker.kill()
    await worker.wait()
    # The supervisor sees its input close and ends the run.
    await until(lambda: port.host().processes == port.host().groups == port.host().states == ())


async def test_another_workers_runs_are_left_alone(port: Harbour) -> None:
    task = asyncio.create_task(
        port.run(
            image_config("/bin/sleep", "1000"),
            limits=QUICK.model_copy(update={"alive_seconds": 1.5}),
            spec={"expect": {"alive": True}},
        )
    )
    await until(lambda: list(port.processes()))
    other = find_runtime(port.folder / "other", name=runtime_name())
    assert await asyncio.to_thread(sweep, other) == ()
    done = await task
    assert done.run.reason == "stopped"


async def test_two_runs_at_once(port: Harbour) -> None:
    config = image_config("/bin/sh", "-c", "sleep 1; exit 5")
    one, two = await asyncio.gather(port.run(config), port.run(config))
    assert (one.run.exit_code, two.run.exit_code) == (5, 5)


async def test_groups_of_a_run_hold_its_processes(port: Harbour) -> None:
    if port.own_kernel:
        pytest.skip("the processes of such a run are none of the host's")
    task = asyncio.create_task(port.sh("sleep 100 & sleep 100; true", limits=LONG))
    group = f"{port.runtime.cgroup_parent}/run1"
    # The runtime's own start has three processes, too, for a moment.
    await until(lambda: sum(_command(pid).startswith("sleep") for pid in port.processes()) == 2)
    assert {str(pid) for pid in members(find_cgroups(), group)} == set(port.processes())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_no_hierarchy_keeps_a_group(port: Harbour) -> None:
    """Read from the mounts themselves: a runtime makes a group in each, also where nothing can be limited."""
    await port.sh("true")
    forget(port.runtime)
    mounted = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    roots = {Path(fields[4]) for fields in mounted if fields[fields.index("-") + 1] in ("cgroup", "cgroup2")}
    assert [root for root in sorted(roots) if (root / port.runtime.cgroup_parent.lstrip("/")).exists()] == []


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
