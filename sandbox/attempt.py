"""One attempt at one image: pull, unpack, mount, plan, run, observe, and always take down.

Whatever goes wrong becomes a report with a reason that a person understands.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from registry.contract import PROTOCOL_VERSION
from registry.contract.job import AttachedSpec
from registry.contract.judge import is_settled
from registry.contract.limits import Limits, PrepareLimits
from registry.contract.plan import NoCommandError, Plan, make_plans
from registry.contract.report import (
    MAX_REPORT_BYTES,
    ErrorReason,
    Mechanism,
    Observation,
    Report,
    ReportError,
    Run,
    Step,
)
from registry.contract.runspec import RunSpec
from registry.contract.serviceplan import make_service_plans, require_bounded, side_by_side
from registry.errors import RequestInvalidError
from registry.oci.imageconfig import ImageConfig
from registry.oci.platform import Platform
from sandbox.budget import Room
from sandbox.bundles.capabilities import require_allowed
from sandbox.errors import SandboxError
from sandbox.ids import leased_ids
from sandbox.images.cache import Cache, Use
from sandbox.images.collect import CacheLimits, make_room
from sandbox.images.pull import pull
from sandbox.images.rootfs import mounted_rootfs
from sandbox.images.snapshots import PreparedImage, prepare
from sandbox.images.source import ImageSource
from sandbox.images.writes import Upper, collect_writes
from sandbox.masking import MaskedStream, Masker, mask_report
from sandbox.network.permits import NetworkPolicy, PinnedNetwork
from sandbox.network.resolve import pin
from sandbox.probes.written import judge_writes
from sandbox.runtimes.base import Runtime
from sandbox.runtimes.conclude import RUN_NAME
from sandbox.runtimes.execute import Execution, OnOutput, execute
from sandbox.runtimes.outcome import fitting_logs
from sandbox.runtimes.spawn import Supervisors
from sandbox.services import ServiceSource, ServiceToRun, mounted_service, pull_services, run_folder

if TYPE_CHECKING:
    from registry.contract.scan import Scan
    from sandbox.scanners.layers import Scanner
    from sandbox.scanners.others.source import ScannerSource

Progress = Callable[[str], None]
LookAtWrites = Callable[[Upper], None]
OnRun = Callable[[str, int | None], None]
MESSAGE_MAX = 2000
TESTED_MAX = 300
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
class Scanning:
    """Who scans the image before it is run, and who gets what was found."""

    scanner: Scanner
    hand_in: Callable[[Scan], Awaitable[None]]
    others: Sequence[ScannerSource] = ()
    """What else looks at it, in containers of their own."""


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
    """Gets the output of the run as it comes, with all secrets masked."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Those that the spec names, with their values."""
    image_specs: Sequence[AttachedSpec] = ()
    """What is attached to the image as referrers."""
    services: Sequence[ServiceSource] = ()
    """Where the images of the spec's services come from."""
    on_run: OnRun = field(default=lambda _name, _attempt: None, repr=False)
    """Called before each run with its name, and the number of its attempt where there may be several."""
    scanning: Scanning | None = field(default=None, repr=False)
    """``None``: the image is not scanned."""

    @property
    def is_scan_alone(self) -> bool:
        """Whether nothing of the image is run."""
        return self.spec is not None and self.spec.is_scan_alone


@dataclass(slots=True)
class _Record:
    """What is known so far, for the report."""

    digest: str
    platform: str
    tested: str = ""
    steps: list[Step] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)
    further_seconds: float = 0.0
    """What all runs but the first took."""


async def try_image(
    source: ImageSource,
    task: Task,
    *,
    workplace: Workplace,
    progress: Progress = lambda _: None,
    look_at_writes: LookAtWrites | None = None,
) -> Report:
    """Try the image and say what was seen; nothing of the run is left when this returns.

    ``look_at_writes`` is called in a thread with the writable layer of each run that is over, before it is
    gone.

    Cancellation ends the run and takes it down before it goes on.
    """
    digest = task.reference if ":" in task.reference else ""
    record = _Record(digest=digest, platform=str(task.platform))
    problem: ReportError | None = None
    masker = Masker(task.secrets.values())
    try:
        with workplace.cache.used() as use:
            await _carry_out(
                source,
                task,
                workplace,
                use=use,
                record=record,
                progress=progress,
                look_at_writes=look_at_writes,
                masker=masker,
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
    report = _report(task, workplace, record, problem)
    if not masker:
        return report
    try:
        return await asyncio.to_thread(mask_report, report, masker)
    except Exception as error:  # the job loop, once more; what the error says may hold what was to be masked
        log.error("report not masked", digest=record.digest, reason=type(error).__name__)
        problem = _problem("worker-error", "the worker could not take the secrets out of what it saw")
        return report.model_copy(update={"tested": "", "runs": (), "error": problem})


async def _carry_out(
    source: ImageSource,
    task: Task,
    workplace: Workplace,
    *,
    use: Use,
    record: _Record,
    progress: Progress,
    look_at_writes: LookAtWrites | None,
    masker: Masker,
) -> None:
    deadline_at = time.monotonic() + task.prepare.seconds
    left = partial(_left, task.prepare, deadline_at)
    on_size = partial(make_room, workplace.cache, workplace.cache_limits)
    with _step(record.steps, "pull", progress):
        image = await pull(
            source,
            task.reference,
            platform=task.platform,
            use=use,
            limits=task.prepare,
            on_size=on_size,
        )
        beside = await pull_services(
            task.spec,
            task.services,
            platform=task.platform,
            left=left,
            use=use,
            on_size=on_size,
        )
    if not task.lease:
        # Where there is a lease, the report answers in the words of the job.
        record.digest, record.platform = str(image.digest), str(image.platform)
    reserve_bytes = workplace.cache_limits.reserve_bytes
    prepared = None
    if task.scanning is not None:
        # Before it is looked at how the image would be run: one that cannot be is scanned all the same.
        with workplace.cache.used() as blobs:
            for blob in image.layers:
                blobs.hold(blob)
            with _step(record.steps, "unpack", progress):
                prepared = await prepare(image, left(), use, reserve_bytes=reserve_bytes)
            started = time.monotonic()
            with _step(record.steps, "scan", progress):
                await _scan(prepared, task, task.scanning, record, workplace, use=use, progress=progress)
            left = partial(_left, task.prepare, deadline_at + time.monotonic() - started)
    if task.is_scan_alone:
        return
    limits, ceiling = workplace.room.budget.defaults(task.limits), _reportable(task.ceiling)
    plans = make_plans(
        image.config,
        task.spec,
        limits=limits,
        ceiling=ceiling,
        image_spec_allowed=task.image_spec_allowed,
        secrets=task.secrets,
        attached=[one.spec for one in task.image_specs],
    )
    configs = {one.source.name: one.image.config for one in beside}
    service_plans = make_service_plans(
        task.spec, configs, limits=limits, ceiling=ceiling, secrets=task.secrets
    )
    require_bounded(plans, service_plans, ceiling)
    record.tested = "; ".join(_titled(plan, plan.tested) for plan in plans)[:TESTED_MAX]
    networks = []
    for plan in plans:
        workplace.room.budget.require_possible(side_by_side(plan, service_plans))
        require_allowed(plan.capabilities, workplace.allowed_capabilities)
        networks.append(await pin(plan.network, workplace.network))
    with _step(record.steps, "unpack", progress) if prepared is None or beside else nullcontext():
        if prepared is None:
            prepared = await prepare(image, left(), use, reserve_bytes=reserve_bytes)
        services = [
            ServiceToRun(plan, one, await prepare(one.image, left(), use, reserve_bytes=reserve_bytes))
            for plan, one in zip(service_plans, beside, strict=True)
        ]
    place = _Place(
        image.config, prepared, services, workplace, progress, task.on_output, look_at_writes, masker
    )
    for plan, network in zip(plans, networks, strict=True):
        runs: list[Run] = []
        while not is_settled(plan.asked, runs):
            started, first = time.monotonic(), not record.executions
            attempt = len(runs) + 1 if plan.asked.attempts > 1 else None
            task.on_run(plan.asked.case or RUN_NAME, attempt)
            try:
                execution = await _run(place, plan, network, record.steps if first else [])
            except SandboxError as error:
                raise SandboxError(
                    error.reason, _titled(plan, error.message), retryable=error.retryable
                ) from None
            named = execution.run if execution.of_service else _named(execution.run, plan, len(runs) + 1)
            runs.append(named)
            record.executions.append(replace(execution, run=runs[-1]))
            record.further_seconds += 0.0 if first else time.monotonic() - started
            if execution.error is not None:
                return


async def _scan(
    prepared: PreparedImage,
    task: Task,
    scanning: Scanning,
    record: _Record,
    workplace: Workplace,
    *,
    use: Use,
    progress: Progress,
) -> None:
    """Scan, and hand in what was found; whatever becomes of it, the image is run."""
    from sandbox.scanners.scan import failed_scan, raw_config, scan_image  # noqa: PLC0415

    image = prepared.image
    about = {"digest": record.digest or str(image.digest), "platform": record.platform, "lease": task.lease}
    try:
        scan = await scan_image(
            image,
            use,
            scanning.scanner,
            on_layer=lambda number, of: progress(f"scan: layer {number} of {of}"),
            **about,
        )
    except Exception as error:  # a scan that fails is no scan without findings, and no reason not to run
        log.exception("scan failed", digest=record.digest)
        scan = failed_scan(image, scanning.scanner, f"the scan failed: {type(error).__name__}", **about)
    if scanning.others:
        from sandbox.scanners.others.running import Looking, with_others  # noqa: PLC0415

        looking = Looking(
            prepared,
            raw_config(image, use),
            task.platform,
            task.ceiling,
            task.prepare,
            workplace,
            progress,
        )
        scan = await with_others(scan, scanning.others, looking)
    await scanning.hand_in(scan)


@dataclass(frozen=True, slots=True)
class _Place:
    """An image that is ready to be run in a worker's place."""

    config: ImageConfig
    prepared: PreparedImage
    services: Sequence[ServiceToRun]
    workplace: Workplace
    progress: Progress
    on_output: OnOutput | None
    look_at_writes: LookAtWrites | None
    masker: Masker


async def _run(place: _Place, plan: Plan, network: PinnedNetwork | None, steps: list[Step]) -> Execution:
    """One run, in a writable layer of its own; what precedes it is added to ``steps``."""
    workplace, progress = place.workplace, place.progress
    run_id = f"run-{secrets.token_hex(8)}"
    async with AsyncExitStack() as stack:
        limits = side_by_side(plan, [one.plan for one in place.services])
        waiting = workplace.room.must_wait(limits)
        with _step(steps, "wait for room", progress) if waiting else nullcontext():
            await stack.enter_async_context(workplace.room.taken(limits))
        folder = await stack.enter_async_context(run_folder(workplace.state, run_id))
        ids = stack.enter_context(leased_ids())
        with _step(steps, "mount", progress):
            mounting = mounted_rootfs(place.prepared, folder, ids, written_bytes=plan.limits.written_bytes)
            mounted = await stack.enter_async_context(mounting)
            services = [
                await stack.enter_async_context(mounted_service(one, workplace.state, f"{run_id}-{number}"))
                for number, one in enumerate(place.services if plan.services else (), 1)
            ]
        progress(f"run: {_titled(plan, plan.tested)}")
        on_output = place.on_output
        if on_output is not None and place.masker:
            stream = MaskedStream(place.masker, on_output)
            stack.callback(stream.end)
            on_output = stream.take
        bundle = folder / "bundle"
        execution = await execute(
            plan,
            config=place.config,
            root=mounted.path,
            run_dir=bundle,
            run_id=run_id,
            ids=ids,
            runtime=workplace.runtime,
            supervisors=workplace.supervisors,
            allowed_downgrades=workplace.allowed_downgrades,
            network=network,
            cpu_set=workplace.cpu_set,
            on_output=on_output,
            services=services,
        )
        if not execution.of_service and (place.look_at_writes is not None or plan.only_writes):
            # The runtime writes this file when all that is ours is in place, and before the command runs.
            since_ns = (bundle / "container.pid").stat().st_ctime_ns
            upper = Upper(mounted.upper_fd, place.prepared.lower, ids.base, since_ns)
            seen = await asyncio.to_thread(_look_at_writes, upper, plan, place.look_at_writes)
            observations = (*execution.run.observations, *seen)
            run = execution.run.model_copy(update={"observations": observations})
            execution = replace(execution, run=run)
        return execution


def _look_at_writes(upper: Upper, plan: Plan, look: LookAtWrites | None) -> Sequence[Observation]:
    if look is not None:
        look(upper)
    if not plan.only_writes:
        return ()
    writes = collect_writes(upper)
    return [judge_writes(allowed, writes) for allowed in plan.only_writes]


def _left(prepare: PrepareLimits, deadline: float) -> PrepareLimits:
    """What preparing may still take: all images of a run are pulled and unpacked in the time of one."""
    return prepare.model_copy(update={"seconds": max(deadline - time.monotonic(), 0.001)})


def _titled(plan: Plan, text: str) -> str:
    return f"{plan.asked.case}: {text}" if plan.asked.case else text


def _named(run: Run, plan: Plan, number: int) -> Run:
    """The run with the name of its case, and the number of its attempt where there may be several."""
    said: dict[str, object] = {}
    if plan.asked.case:
        said |= {"name": plan.asked.case, "case": plan.asked.case}
    if plan.asked.attempts > 1:
        said["attempt"] = number
    return run.model_copy(update=said)


def _reportable(ceiling: Limits) -> Limits:
    """The ceiling, with no more output than a report holds, whatever a registry permits: it is in memory."""
    return ceiling.model_copy(update={"log_bytes": min(ceiling.log_bytes, MAX_REPORT_BYTES)})


def _report(task: Task, workplace: Workplace, record: _Record, problem: ReportError | None) -> Report:
    executions = record.executions
    steps = list(record.steps)
    if executions:
        steps += executions[0].steps
    if len(executions) > 1:
        steps.append(Step(name="further runs", seconds=round(record.further_seconds, 6)))
    downgrades = dict.fromkeys(name for one in executions for name in one.downgrades)
    return Report(
        protocol=PROTOCOL_VERSION,
        lease=task.lease,
        digest=record.digest,
        platform=record.platform,
        tested=record.tested,
        runtime="" if task.is_scan_alone else str(workplace.runtime.info)[:100],
        mechanisms=(*_of_all([one.mechanisms for one in executions]), *_attached(task)),
        downgrades=tuple(downgrades),
        steps=tuple(steps),
        runs=fitting_logs([one.run for one in executions]),
        error=problem or (executions[-1].error if executions else None),
    )


def _attached(task: Task) -> Sequence[Mechanism]:
    """What was expected as well, for the record."""
    digests = [one.digest for one in task.image_specs]
    return [Mechanism(name="attached run spec", applied=True, detail=", ".join(digests))] if digests else []


def _of_all(each: Sequence[Sequence[Mechanism]]) -> tuple[Mechanism, ...]:
    """The mechanisms of all runs: applied is what each of them had."""
    by_run = [{one.name: one for one in mechanisms} for mechanisms in each]
    if len(by_run) < 2:
        return tuple(each[0]) if each else ()
    return tuple(
        _of_each(name, [one.get(name) for one in by_run])
        for name in dict.fromkeys(name for one in by_run for name in one)
    )


def _of_each(name: str, found: Sequence[Mechanism | None]) -> Mechanism:
    details = dict.fromkeys(one.detail for one in found if one is not None and one.detail)
    if None in found:
        details["not in every run"] = None
    applied = all(one is not None and one.applied for one in found)
    return Mechanism(name=name, applied=applied, detail="; ".join(details)[:1000])


def _problem(reason: ErrorReason, message: str, *, retryable: bool = False) -> ReportError:
    # A message may name a file of the image, and such a name need not be text.
    text = message.encode("utf-8", "replace").decode("utf-8")
    return ReportError(reason=reason, message=text[:MESSAGE_MAX], retryable=retryable)


@contextmanager
def _step(steps: list[Step], name: str, progress: Progress) -> Iterator[None]:
    """Take the time of a step, also of one that fails."""
    progress(name)
    started = time.monotonic()
    try:
        yield
    finally:
        steps.append(Step(name=name, seconds=round(time.monotonic() - started, 6)))
