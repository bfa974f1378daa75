"""One run, from bundle to teardown: ``execute``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from registry.contract.plan import Plan
from registry.contract.report import Mechanism, ReportError, Run, Step
from registry.oci.imageconfig import ImageConfig
from sandbox.bundles.config import Bind
from sandbox.errors import SandboxError
from sandbox.ids import IdRange
from sandbox.network.permits import PinnedNetwork
from sandbox.runtimes.base import Runtime
from sandbox.runtimes.job import (
    MAX_LINE_BYTES,
    RunJob,
    RunResult,
    ServiceJob,
    dump_job,
    parse_result,
)
from sandbox.runtimes.spawn import Supervisor, Supervisors
from sandbox.runtimes.sweep import sweep_run

# The supervisor ends by itself; this is for one that does not.
_SUPERVISOR_SPARE_SECONDS = 120.0
_SERVICE_SPARE_SECONDS = 30.0
_GIVE_UP_SECONDS = 30.0


OnOutput = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Execution:
    """What one run showed."""

    run: Run
    mechanisms: tuple[Mechanism, ...]
    downgrades: tuple[str, ...]
    """Isolation that was missing and that the operator allowed to be missing, by name."""
    steps: tuple[Step, ...]
    error: ReportError | None = None
    """Set where the command ran but its end says nothing about the image (a withheld capability), or where
    ``run`` is that of a service."""

    @property
    def of_service(self) -> bool:
        """Whether ``run`` is what a service came to, instead of the image."""
        return self.error is not None and self.error.reason == "service-failed"


async def execute(
    plan: Plan,
    *,
    config: ImageConfig,
    root: Path,
    run_dir: Path,
    run_id: str,
    ids: IdRange,
    runtime: Runtime,
    supervisors: Supervisors,
    allowed_downgrades: frozenset[str],
    network: PinnedNetwork | None = None,
    cpu_set: str | None = None,
    on_output: OnOutput | None = None,
    services: Sequence[ServiceJob] = (),
    binds: Sequence[Bind] = (),
) -> Execution:
    """Run ``plan`` in the prepared root file system and observe it.

    ``root`` is a mounted, writable root file system of this run alone, owned by ``ids``; ``run_dir`` an
    existing empty folder of this run alone; both below folders that others may pass through (mode 0711).
    ``run_id`` is a name of at most 64 characters ``[a-z0-9-]``, never used before. ``network`` is what the
    operator permitted of ``plan.network``, ``cpu_set`` the only processors of the worker's runs;
    ``on_output`` gets the output as it comes, as bytes of the image and within the limit of the log.
    ``services`` are started first, each in a root file system and folder of its own of the same kind.
    ``binds`` are folders of the worker that it sees, read-only.

    Whatever happens, cancellation included, container, cgroups and processes of the run are gone when this
    returns or raises, those of its services as well; ``root`` and ``run_dir`` are left to the caller.

    Raises:
        SandboxError: nothing was run, and why (``image-refused``, ``user-unknown``, ``isolation-missing``,
            ``start-failed``, ``service-failed``, ``runtime-error``, ``worker-error``).
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
        services=tuple(services),
        names=(*(one.name for one in plan.stubs), *(one.name for one in services)),
        binds=tuple(binds),
    )
    async with _followed(on_output) as live_fd:
        result = await _supervised(job, runtime, supervisors, live_fd)
    if result.run is None:
        problem = result.error or ReportError(reason="worker-error", message="no result")
        raise SandboxError(problem.reason, problem.message, retryable=problem.retryable)
    return Execution(result.run, result.mechanisms, result.downgrades, result.steps, result.error)


@asynccontextmanager
async def _followed(on_output: OnOutput | None) -> AsyncIterator[int | None]:
    """The end of a pipe to write to, whose other end is read for ``on_output``; all of it when this ends."""
    if on_output is None:
        yield None
        return
    loop = asyncio.get_running_loop()
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def take() -> None:
        with suppress(BlockingIOError):
            while chunk := os.read(read_fd, 65536):
                on_output(chunk)
            loop.remove_reader(read_fd)

    loop.add_reader(read_fd, take)
    try:
        yield write_fd
        take()
    finally:
        loop.remove_reader(read_fd)
        os.close(read_fd)
        os.close(write_fd)


async def _supervised(
    job: RunJob, runtime: Runtime, supervisors: Supervisors, live_fd: int | None
) -> RunResult:
    supervisor = await _started(supervisors, live_fd)
    reader, writer = await asyncio.open_connection(sock=supervisor.channel, limit=MAX_LINE_BYTES)
    clean = False
    waited = sum(one.ready_seconds + _SERVICE_SPARE_SECONDS for one in job.services)
    try:
        async with asyncio.timeout(job.plan.limits.wall_seconds + waited + _SUPERVISOR_SPARE_SECONDS):
            with suppress(ConnectionError):
                writer.write(dump_job(job))
                await writer.drain()
            line = await reader.readline()
        result = parse_result(line)
    except (TimeoutError, ValueError, ConnectionError):
        raise SandboxError("worker-error", "the run's supervisor failed", retryable=True) from None
    else:
        clean = True
        return result
    finally:
        writer.close()
        await _finish(supervisor, job, runtime, clean=clean)


async def _started(supervisors: Supervisors, live_fd: int | None) -> Supervisor:
    starting = asyncio.ensure_future(asyncio.to_thread(supervisors.start, live_fd))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        (await starting).close()
        raise


async def _finish(supervisor: Supervisor, job: RunJob, runtime: Runtime, *, clean: bool) -> None:
    """Let the supervisor end, or end it; a cancelled caller still waits for this."""
    task = asyncio.ensure_future(_end(supervisor, job, runtime, clean=clean))
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
    task.result()


async def _end(supervisor: Supervisor, job: RunJob, runtime: Runtime, *, clean: bool) -> None:
    try:
        try:
            async with asyncio.timeout(_GIVE_UP_SECONDS):
                await _ended(supervisor)
        except TimeoutError:
            clean = False
            supervisor.kill()
            await _ended(supervisor)
    finally:
        os.close(supervisor.pidfd)
    if not clean:
        for run_id in (*(one.run_id for one in job.services), job.run_id):
            await asyncio.to_thread(sweep_run, runtime, run_id)


async def _ended(supervisor: Supervisor) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(supervisor.pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(supervisor.pidfd)
