"""What is seen of a run while it goes on, and that it can be ended whatever it does."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from registry.contract.report import MAX_SAMPLES
from sandbox.errors import SandboxError
from sandbox.runtimes.cgroups import find_cgroups
from sandbox.runtimes.choose import find_runtime
from tests.kit.runs import MIB, QUICK, Harbour
from tests.kit.runtime_contract import until

LONG = QUICK.model_copy(update={"wall_seconds": 60, "alive_seconds": 30})
ALIVE = {"expect": {"alive": True}}


async def test_output_is_passed_on_as_it_comes(port: Harbour) -> None:
    came: list[bytes] = []
    limits = QUICK.model_copy(update={"log_bytes": 50_000})
    script = f"echo first; sleep {4 if port.own_kernel else 1000}; printf 'no end'; sleep 1; yes"
    async with asyncio.TaskGroup() as group:
        running = group.create_task(port.sh(script, limits=limits, on_output=came.append))
        if not port.own_kernel:
            await until(lambda: bool(came) and end_sleep(port))
    done = running.result()
    # Before the rest, which waits until somebody has seen it; and all that the report has and no more:
    # the limit holds for both.
    assert came[0] == b"first\n"
    assert (done.run.reason, len(done.run.log)) == ("log-full", 50_000)
    assert b"".join(came).decode() == done.run.log


def end_sleep(port: Harbour) -> bool:
    """End the run's sleep, without a word of its shell; whether there was one."""
    for pid in port.processes():
        with suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/cmdline").read_text().startswith("sleep\0"):
                os.kill(int(pid), signal.SIGPIPE)
                return True
    return False


async def test_somebody_who_reads_slowly_keeps_nobody_waiting(port: Harbour) -> None:
    """More than a pipe holds, and nothing is read until the command has ended."""
    came: list[bytes] = []
    ended = False

    def slow(chunk: bytes) -> None:
        nonlocal ended
        deadline = time.monotonic() + 50
        while not ended and time.monotonic() < deadline:
            time.sleep(0.05)
            ended = not list(port.processes())
        came.append(chunk)

    limits = QUICK.model_copy(update={"log_bytes": 400_000})
    done = await port.sh("yes | head -c 300000", limits=limits, on_output=slow)
    assert (done.run.exit_code, len(done.run.log), ended) == (0, 300_000, True)
    assert b"".join(came).decode() == done.run.log


async def test_use_is_sampled(port: Harbour) -> None:
    script = "sleep 2; dd if=/dev/zero of=/dev/shm/f bs=1M count=20; while :; do :; done"
    limits = QUICK.model_copy(update={"wall_seconds": 6})
    run = (await port.sh(script, limits=limits)).run
    assert 10 < len(run.samples) <= MAX_SAMPLES
    first, last = run.samples[0], run.samples[-1]
    # The script sleeps for two seconds before it uses anything.
    assert (first.seconds < 2, last.seconds) == (True, pytest.approx(run.seconds, abs=0.1))
    assert first.memory_bytes is not None
    assert last.memory_bytes is not None
    assert last.memory_bytes - first.memory_bytes > 15 * MIB
    assert last.cpu_seconds is not None
    assert run.cpu_seconds is not None
    assert 0.02 < last.cpu_seconds <= run.cpu_seconds
    assert all(one.pids for one in run.samples[:-1])
    assert run.memory_peak_bytes is not None
    assert max(one.memory_bytes or 0 for one in run.samples) <= run.memory_peak_bytes


async def test_a_runtime_that_fails_says_nothing_about_the_image(port: Harbour) -> None:
    working = port.runtime
    port.runtime = replace(find_runtime(working.state), info=replace(working.info, path=Path("/bin/false")))
    try:
        with pytest.raises(SandboxError, match="could not create the container: exit code 1") as caught:
            await port.sh("true")
    finally:
        port.runtime = working
    assert caught.value.reason == "runtime-error"


@pytest.mark.parametrize(
    ("pids", "reason", "why"),
    [
        (1, "spec-invalid", r"limits\.pids is 1, and runc itself needs more"),
        (64, "runtime-error", "the container ended before its command: ended by signal 9: pthread_c"),
    ],
)
async def test_a_container_that_ends_before_its_command(
    port: Harbour, pids: int, reason: str, why: str
) -> None:
    """As the one of a runtime in Go does that may make no thread, at any moment after ``create``."""
    working = port.runtime
    dying = port.folder / "dying"
    dying.write_text(
        f'#!/bin/sh\n{working.info.path} "$@" || exit\ncase "$*" in *" create "*)\n'
        'while [ "$1" != --pid-file ]; do shift; done\n'
        'echo "pthread_create failed: Resource temporarily unavailable" >&2\n'
        'kill -KILL "$(cat "$2")"; until grep -q "^State:.Z" "/proc/$(cat "$2")/status"; do :; done\nesac\n'
    )
    dying.chmod(0o755)
    port.runtime = replace(find_runtime(working.state), info=replace(working.info, path=dying))
    try:
        with pytest.raises(SandboxError, match=why) as caught:
            await port.sh("true", limits=QUICK.model_copy(update={"pids": pids}))
    finally:
        port.runtime = working
    assert caught.value.reason == reason


async def test_a_frozen_run_can_be_ended(port: Harbour) -> None:
    ready = asyncio.Event()
    script = "echo ready; exec sleep 1000"
    running = asyncio.create_task(port.sh(script, spec=ALIVE, limits=LONG, on_output=lambda _: ready.set()))
    group = f"{port.runtime.cgroup_parent}/run1"
    await ready.wait()
    freeze(find_cgroups().folders(group))
    started = time.monotonic()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert time.monotonic() - started < 60


def freeze(folders: tuple[Path, ...]) -> None:
    done = []
    for folder in folders:
        for name, text in (("freezer.state", "FROZEN"), ("cgroup.freeze", "1")):
            if (folder / name).exists():
                (folder / name).write_text(text)
                done.append(name)
    assert done
