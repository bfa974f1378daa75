"""One run, from bundle to teardown: ``execute``."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from registry.contract.plan import Plan
from registry.contract.report import Mechanism, ReportError, Run, Step
from registry.oci.imageconfig import ImageConfig
from sandbox.errors import SandboxError
from sandbox.ids import IdRange
from sandbox.network.permits import PinnedNetwork
from sandbox.runtimes.base import Runtime
from sandbox.runtimes.job import COMMAND, MAX_LINE_BYTES, RunJob, RunResult, dump_job, parse_result
from sandbox.runtimes.sweep import sweep_run

# The supervisor ends by itself; this is for one that does not.
_SUPERVISOR_SPARE_SECONDS = 120.0
_GIVE_UP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Execution:
    """What one run showed."""

    run: Run
    mechanisms: tuple[Mechanism, ...]
    downgrades: tuple[str, ...]
    """Isolation that was missing and that the operator allowed to be missing, by name."""
    steps: tuple[Step, ...]
    error: ReportError | None = None
    """Set where the command ran but its end says nothing about the image (a withheld capability)."""


async def execute(
    plan: Plan,
    *,
    config: ImageConfig,
    root: Path,
    run_dir: Path,
    run_id: str,
    ids: IdRange,
    runtime: Runtime,
    allowed_downgrades: frozenset[str],
    network: PinnedNetwork | None = None,
    cpu_set: str | None = None,
) -> Execution:
    """Run ``plan`` in the prepared root file system and observe it.

    ``root`` is a mounted, writable root file system of this run alone, owned by ``ids``; ``run_dir`` an
    existing empty folder of this run alone; both below folders that others may pass through (mode 0711).
    ``run_id`` is a name of at most 64 characters ``[a-z0-9-]``, never used before. ``network`` is what the
    operator permitted of ``plan.network``, ``cpu_set`` the only processors of the worker's runs.

    Whatever happens, cancellation included, container, cgroups and processes of the run are gone when this
    returns or raises; ``root`` and ``run_dir`` are left to the caller.

    Raises:
        SandboxError: nothing was run, and why (``image-refused``, ``user-unknown``, ``isolation-missing``,
            ``start-failed``, ``runtime-error``, ``worker-error``).
    """
    job = RunJob(
        plan=plan,
        config=config,
        root=root,
        run_dir=run_dir,
        run_id=run_id,
        id_base=ids.base,
        id_size=ids.size,
        runtime=runtime.info,
        runtime_state=runtime.state,
        allowed_downgrades=tuple(sorted(allowed_downgrades)),
        network=network,
        cpu_set=cpu_set,
    )
    result = await _supervised(job, runtime)
    if result.run is None:
        problem = result.error or ReportError(reason="worker-error", message="no result")
        raise SandboxError(problem.reason, problem.message, retryable=problem.retryable)
    return Execution(result.run, result.mechanisms, result.downgrades, result.steps, result.error)


async def _supervised(job: RunJob, runtime: Runtime) -> RunResult:
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=MAX_LINE_BYTES,
        env={},
        cwd="/",
        # Ctrl-C on the worker's terminal is for the worker; it then closes the supervisor's input.
        start_new_session=True,
    )
    clean = False
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        async with asyncio.timeout(job.plan.limits.wall_seconds + _SUPERVISOR_SPARE_SECONDS):
            with suppress(ConnectionError):
                process.stdin.write(dump_job(job))
                await process.stdin.drain()
            line = await process.stdout.readline()
        result = parse_result(line)
    except (TimeoutError, ValueError):
        raise SandboxError("worker-error", "the run's supervisor failed", retryable=True) from None
    else:
        clean = True
        return result
    finally:
        await _finish(process, job.run_id, runtime, clean=clean)


async def _finish(process: asyncio.subprocess.Process, run_id: str, runtime: Runtime, *, clean: bool) -> None:
    """Let the supervisor end, or end it; a cancelled caller still waits for this."""
    task = asyncio.ensure_future(_end(process, run_id, runtime, clean=clean))
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
    task.result()


async def _end(process: asyncio.subprocess.Process, run_id: str, runtime: Runtime, *, clean: bool) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(_GIVE_UP_SECONDS):
            code = await process.wait()
    except TimeoutError:
        process.kill()
        code = await process.wait()
    if code != 0 or not clean:
        await asyncio.to_thread(sweep_run, runtime, run_id)
