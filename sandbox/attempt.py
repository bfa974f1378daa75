"""One attempt at one image: pull, unpack, mount, plan, run, observe, and always take down.

Whatever goes wrong becomes a report with a reason that a person understands.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog

from registry.contract import PROTOCOL_VERSION
from registry.contract.limits import Limits, PrepareLimits
from registry.contract.plan import NoCommandError, make_plan
from registry.contract.report import MAX_REPORT_BYTES, ErrorReason, Report, ReportError, Step
from registry.contract.runspec import RunSpec
from registry.errors import RequestInvalidError
from registry.oci.platform import Platform
from sandbox.budget import Room
from sandbox.bundles.capabilities import require_allowed
from sandbox.errors import SandboxError
from sandbox.ids import leased_ids
from sandbox.images.cache import Cache, Use, remove_path
from sandbox.images.collect import CacheLimits, make_room
from sandbox.images.pull import pull
from sandbox.images.rootfs import mounted_rootfs
from sandbox.images.snapshots import prepare
from sandbox.images.source import ImageSource
from sandbox.images.writes import Upper
from sandbox.network.permits import NetworkPolicy
from sandbox.network.resolve import pin
from sandbox.runtimes.base import Runtime
from sandbox.runtimes.execute import Execution, OnOutput, execute
from sandbox.runtimes.spawn import Supervisors

Progress = Callable[[str], None]
LookAtWrites = Callable[[Upper], None]
MESSAGE_MAX = 2000
log: structlog.typing.FilteringBoundLogger = structlog.get_logger("seatrial.worker")


@dataclass(frozen=True, slots=True)
class Workplace:
    """What a worker works with: folders under ``state``, which is nobody else's, a runtime, and a cache that
    may be shared."""

    state: Path
    runtime: Runtime
    supervisors: Supervisors
    cache: Cache
    cache_limits: CacheLimits
    allowed_downgrades: frozenset[str]
    network: NetworkPolicy = field(default_factory=NetworkPolicy)
    """What runs may reach."""
    cpu_set: str | None = None
    """The only processors of runs."""
    room: Room = field(default_factory=Room)
    """What runs may use together, as it is given out."""
    allowed_capabilities: frozenset[str] = frozenset()
    """What run specs may ask for beyond what a profile has, without ``CAP_``."""


@dataclass(frozen=True, slots=True)
class Task:
    """One image to try. ``reference`` is a tag or a digest; ``lease`` is empty where there is no registry."""

    reference: str
    platform: Platform
    spec: RunSpec | None
    image_spec_allowed: bool
    limits: Limits
    ceiling: Limits
    prepare: PrepareLimits
    lease: str = field(default="", repr=False)
    on_output: OnOutput | None = field(default=None, repr=False)
    """Gets the output of the run as it comes."""


@dataclass(slots=True)
class _Record:
    """What is known so far, for the report."""

    digest: str
    platform: str
    tested: str = ""
    steps: list[Step] = field(default_factory=list)


async def try_image(
    source: ImageSource,
    task: Task,
    *,
    workplace: Workplace,
    progress: Progress = lambda _: None,
    look_at_writes: LookAtWrites | None = None,
) -> Report:
    """Try the image and say what was seen; nothing of the run is left when this returns.

    ``look_at_writes`` is called in a thread with the writable layer of a run that is over, before it is gone.

    Cancellation ends the run and takes it down before it goes on.
    """
    digest = task.reference if ":" in task.reference else ""
    record = _Record(digest=digest, platform=str(task.platform))
    execution: Execution | None = None
    problem: ReportError | None = None
    try:
        with workplace.cache.used() as use:
            execution = await _carry_out(
                source,
                task,
                workplace,
                use=use,
                record=record,
                progress=progress,
                look_at_writes=look_at_writes,
            )
    except SandboxError as error:
        problem = _problem(error.reason, error.message, retryable=error.retryable)
    except NoCommandError as error:
        problem = _problem("no-command", error.message)
    except RequestInvalidError as error:
        problem = _problem("spec-invalid", error.message)
    except OSError as error:
        log.warning("attempt failed", digest=record.digest, reason=repr(error))
        problem = _problem("worker-error", f"the worker failed: {error.strerror or error}", retryable=True)
    except Exception:  # the job loop: the next job must be tried
        log.exception("attempt failed", digest=record.digest)
        problem = _problem("worker-error", "the worker failed unexpectedly; its log has the reason")
    return _report(task, workplace, record, execution, problem)


async def _carry_out(
    source: ImageSource,
    task: Task,
    workplace: Workplace,
    *,
    use: Use,
    record: _Record,
    progress: Progress,
    look_at_writes: LookAtWrites | None,
) -> Execution:
    deadline = time.monotonic() + task.prepare.seconds
    with _step(record, "pull", progress):
        image = await pull(
            source,
            task.reference,
            platform=task.platform,
            use=use,
            limits=task.prepare,
            on_size=partial(make_room, workplace.cache, workplace.cache_limits),
        )
    if not task.lease:
        # Where there is a lease, the report answers in the words of the job.
        record.digest, record.platform = str(image.digest), str(image.platform)
    plan = make_plan(
        image.config,
        task.spec,
        limits=workplace.room.budget.defaults(task.limits),
        ceiling=_reportable(task.ceiling),
        image_spec_allowed=task.image_spec_allowed,
    )
    record.tested = plan.tested
    workplace.room.budget.require_possible(plan.limits)
    require_allowed(plan.capabilities, workplace.allowed_capabilities)
    network = await pin(plan.network, workplace.network)
    left = task.prepare.model_copy(update={"seconds": max(deadline - time.monotonic(), 0.001)})
    with _step(record, "unpack", progress):
        reserve_bytes = workplace.cache_limits.reserve_bytes
        prepared = await prepare(image, left, use, reserve_bytes=reserve_bytes)
    run_id = f"run-{secrets.token_hex(8)}"
    async with AsyncExitStack() as stack:
        waiting = workplace.room.must_wait(plan.limits)
        with _step(record, "wait for room", progress) if waiting else nullcontext():
            await stack.enter_async_context(workplace.room.taken(plan.limits))
        folder = await stack.enter_async_context(_run_folder(workplace.state, run_id))
        ids = stack.enter_context(leased_ids())
        with _step(record, "mount", progress):
            mounting = mounted_rootfs(prepared, folder, ids, written_bytes=plan.limits.written_bytes)
            mounted = await stack.enter_async_context(mounting)
        progress(f"run: {plan.tested}")
        bundle = folder / "bundle"
        execution = await execute(
            plan,
            config=image.config,
            root=mounted.path,
            run_dir=bundle,
            run_id=run_id,
            ids=ids,
            runtime=workplace.runtime,
            supervisors=workplace.supervisors,
            allowed_downgrades=workplace.allowed_downgrades,
            network=network,
            cpu_set=workplace.cpu_set,
            on_output=task.on_output,
        )
        if look_at_writes is not None:
            # The runtime writes this file when all that is ours is in place, and before the command runs.
            since_ns = (bundle / "container.pid").stat().st_ctime_ns
            upper = Upper(mounted.upper_fd, prepared.lower, ids.base, since_ns)
            await asyncio.to_thread(look_at_writes, upper)
        return execution


def _reportable(ceiling: Limits) -> Limits:
    """The ceiling, with no more output than a report holds, whatever a registry permits: it is in memory."""
    return ceiling.model_copy(update={"log_bytes": min(ceiling.log_bytes, MAX_REPORT_BYTES)})


def _report(
    task: Task,
    workplace: Workplace,
    record: _Record,
    execution: Execution | None,
    problem: ReportError | None,
) -> Report:
    report = Report(
        protocol=PROTOCOL_VERSION,
        lease=task.lease,
        digest=record.digest,
        platform=record.platform,
        tested=record.tested,
        runtime=str(workplace.runtime.info)[:100],
        steps=tuple(record.steps),
        error=problem,
    )
    if execution is None:
        return report
    return report.model_copy(
        update={
            "mechanisms": execution.mechanisms,
            "downgrades": execution.downgrades,
            "steps": (*record.steps, *execution.steps),
            "runs": (execution.run,),
            "error": execution.error,
        }
    )


def _problem(reason: ErrorReason, message: str, *, retryable: bool = False) -> ReportError:
    # A message may name a file of the image, and such a name need not be text.
    text = message.encode("utf-8", "replace").decode("utf-8")
    return ReportError(reason=reason, message=text[:MESSAGE_MAX], retryable=retryable)


@contextmanager
def _step(record: _Record, name: str, progress: Progress) -> Iterator[None]:
    """Take the time of a step, also of one that fails."""
    progress(name)
    started = time.monotonic()
    try:
        yield
    finally:
        record.steps.append(Step(name=name, seconds=round(time.monotonic() - started, 6)))


@asynccontextmanager
async def _run_folder(state: Path, run_id: str) -> AsyncIterator[Path]:
    """A folder of one run that mapped users can pass through, removed at the end."""
    folder = state / "runs" / run_id
    folder.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    folder.mkdir(mode=0o711)
    (folder / "bundle").mkdir(mode=0o711)
    try:
        yield folder
    finally:
        await asyncio.shield(asyncio.to_thread(remove_path, folder))
