"""Some of the hostile runs once more, on runsc: what gVisor does otherwise is said where it is expected."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.oci.imageconfig import Healthcheck
from sandbox import landlock
from tests.hostile.runs import test_storms as storms
from tests.hostile.runs.test_images import test_nothing_is_won, test_what_is_seen_from_inside
from tests.hostile.runs.test_outcomes import (
    test_a_command_of_another_format,
    test_a_killed_child_is_reported_beside_exit_0,
    test_a_withheld_capability_is_named,
    test_daemons_are_gone_with_the_run,
    test_fork_bomb,
    test_log_flood,
    test_memory_bomb,
)
from tests.kit.runs import Harbour, image_config, seen
from tests.kit.runtime_contract import docked
from tests.soak.runs import run_again_and_again

__all__ = [
    "test_a_command_of_another_format",
    "test_a_killed_child_is_reported_beside_exit_0",
    "test_a_withheld_capability_is_named",
    "test_daemons_are_gone_with_the_run",
    "test_fork_bomb",
    "test_log_flood",
    "test_memory_bomb",
    "test_nothing_is_won",
    "test_what_is_seen_from_inside",
]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="all isolation needs root")


@pytest.fixture(scope="module")
def port(tools: Path) -> Iterator[Harbour]:
    """A harbour with runsc, and a host that must be afterwards what it was."""
    with docked("runsc", path=f"{tools}:{os.environ['PATH']}") as dock:
        yield dock


@pytest.mark.parametrize(
    "storm", ["processes", "programs", "threads", "memory", "descriptors", "namespaces and keys"]
)
async def test_storms_of_a_kind(storm: str, port: Harbour) -> None:
    await storms.test_stress(storm, port)


@pytest.mark.parametrize("storm", ["log", "orphans"])
async def test_storms_of_a_script(storm: str, port: Harbour) -> None:
    await storms.test_scripts(storm, port)


async def test_random_system_calls(port: Harbour) -> None:
    await storms.test_random_system_calls("", port)


async def test_what_stands_around_its_kernel(port: Harbour) -> None:
    """The outer list and the domain hold the kernel of the run; a look inside is behind them as well."""
    check = Healthcheck(("kill -0 1 && ! dmesg -c",), shell=True)
    done = await port.run(image_config("/bin/sh", "-c", "dmesg -c; sleep 60", healthcheck=check))
    assert seen(done) == [True], done.run.observations
    assert done.run.log == "dmesg: klogctl: Operation not permitted\n"
    applied = {one.name: one.applied for one in done.mechanisms}
    assert applied["outer seccomp"] is applied["seccomp"] is True
    assert applied["Landlock"] is (landlock.version() >= landlock.SCOPES_ABI)


@pytest.mark.timeout(600)
async def test_runs_by_the_dozen_and_a_kill(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is killed (-9) among eight attackers leaves nothing behind. It connects no run to a
    network, and those that ask for one are told so."""
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    count = await run_again_and_again(tmp_path, runs=16, kill_every=7, seed=1, runtime="runsc")
    assert count.violations == []
    assert (count.runs, sum(count.verdicts.values())) == (16, 16)
    assert count.kills in (1, 2)
