"""Having other scanners look at an image: each runs as any image does, without a network or a capability.

Nothing that a scanner does, or fails to do, ends the scan: it is then incomplete, and says why.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from registry.contract.limits import Limits, PrepareLimits
from registry.contract.otherscanner import (
    EXIT_COMPLETE,
    EXIT_INCOMPLETE,
    IMAGE_FILE,
    LAYERS,
    MAX_REPORT_BYTES,
    REPORT_FILE,
    SCAN_FILE,
    SCANNER_LABEL,
    TARGET,
    Declaration,
    parse_declaration,
)
from registry.contract.plan import DEFAULT_PATH, Plan
from registry.contract.report import Run
from registry.contract.scan import Incomplete, Scan
from registry.errors import RequestInvalidError
from registry.oci.imageconfig import ImageConfig
from registry.oci.platform import Platform
from registry.oci.strictjson import parse_json_object
from sandbox.bundles.config import Bind
from sandbox.bundles.rootfs import Rootfs, open_rootfs
from sandbox.errors import SandboxError
from sandbox.ids import IdRange, leased_ids
from sandbox.images.cache import Use
from sandbox.images.collect import make_room
from sandbox.images.pull import pull
from sandbox.images.rootfs import mounted_rootfs
from sandbox.images.shown import ShownImage, shown_image
from sandbox.images.snapshots import PreparedImage, prepare
from sandbox.runtimes.execute import execute
from sandbox.scanners.document import shown_path
from sandbox.scanners.others.merging import with_failed, with_said
from sandbox.scanners.others.reading import read_said
from sandbox.scanners.others.said import ReportInvalidError
from sandbox.scanners.others.source import ScannerSource
from sandbox.services import run_folder

if TYPE_CHECKING:
    from sandbox.attempt import Workplace

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("seatrial.worker")
_LAST_LINE_MAX = 120


@dataclass(frozen=True, slots=True)
class Looking:
    """What scanners look at: ``target``, which is unpacked, and what is told of it."""

    target: PreparedImage
    raw_config: bytes
    """Its configuration as it came."""
    platform: Platform
    """Of the worker: what scanners run on."""
    ceiling: Limits
    prepare: PrepareLimits
    workplace: Workplace
    progress: Callable[[str], None]


async def with_others(scan: Scan, scanners: Sequence[ScannerSource], looking: Looking) -> Scan:
    """``scan`` with what all of these scanners add to it, one after the other. Each is told only what our own
    modules found."""
    added = scan
    for one in scanners:
        looking.progress(f"scan: {one.name}")
        image = one.image
        try:
            with looking.workplace.cache.used() as use:
                prepared, declared = await _ready(one, looking, use)
                image = f"{one.image}@{prepared.image.digest}"
                run, raw, gaps = await _look(one.name, prepared, declared, scan=scan, looking=looking)
                added = await asyncio.to_thread(
                    _told, added, scan, one.name, image, declared, run=run, raw=raw, gaps=gaps
                )
        except (SandboxError, RequestInvalidError) as error:
            added = with_failed(added, one.name, image, f"it could not look: {error.message}")
        except (ReportInvalidError, OSError) as error:
            added = with_failed(added, one.name, image, _why(error))
        except Exception as error:  # what a hostile report may come to is no reason to lose the scan
            log.exception("scanner failed", scanner=one.name, digest=scan.digest)
            added = with_failed(added, one.name, image, f"the worker failed: {type(error).__name__}")
    return added


def _why(error: ReportInvalidError | OSError) -> str:
    if isinstance(error, ReportInvalidError):
        return f"its report cannot be read: {error}"
    return f"the worker could not have it look: {error.strerror or error}"


async def _ready(one: ScannerSource, looking: Looking, use: Use) -> tuple[PreparedImage, Declaration]:
    workplace = looking.workplace
    pulled = await pull(
        one.source,
        one.reference,
        platform=looking.platform,
        use=use,
        limits=looking.prepare,
        on_size=lambda size: make_room(workplace.cache, workplace.cache_limits, size),
    )
    declared = parse_declaration(pulled.config.labels.get(SCANNER_LABEL))
    reserve = workplace.cache_limits.reserve_bytes
    return await prepare(pulled, looking.prepare, use, reserve_bytes=reserve), declared


async def _look(
    name: str,
    prepared: PreparedImage,
    declared: Declaration,
    *,
    scan: Scan,
    looking: Looking,
) -> tuple[Run, bytes | None, Sequence[Incomplete]]:
    """One run of a scanner: how it ended, what it left, and what it could not have looked at."""
    workplace, config = looking.workplace, prepared.image.config
    limits = declared.limited(looking.ceiling)
    workplace.room.budget.require_possible(limits)
    plan = make_scanner_plan(config, declared, limits, now=int(time.time()))
    run_id = f"scan-{secrets.token_hex(8)}"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(workplace.room.taken(limits))
        folder = await stack.enter_async_context(run_folder(workplace.state, run_id))
        beside = await stack.enter_async_context(run_folder(workplace.state, f"{run_id}-target"))
        ids = stack.enter_context(leased_ids())
        mounting = mounted_rootfs(prepared, folder, ids, written_bytes=limits.written_bytes)
        mounted = await stack.enter_async_context(mounting)
        shown = await stack.enter_async_context(shown_image(looking.target, beside, ids))
        await asyncio.to_thread(_hand_over, mounted.path, ids, scan, looking)
        execution = await execute(
            plan,
            config=config,
            root=mounted.path,
            run_dir=folder / "bundle",
            run_id=run_id,
            ids=ids,
            runtime=workplace.runtime,
            supervisors=workplace.supervisors,
            allowed_downgrades=workplace.allowed_downgrades,
            cpu_set=workplace.cpu_set,
            binds=_binds(shown),
        )
        raw = await asyncio.to_thread(_report, mounted.upper_fd)
    gaps = [
        Incomplete(scanner=name, where=shown_path(path), reason="the worker cannot let it be read")
        for path in shown.closed
    ]
    return execution.run, raw, gaps


def make_scanner_plan(config: ImageConfig, declared: Declaration, limits: Limits, *, now: int) -> Plan:
    """How a scanner is run: by its own command, as root of its own ids, without a capability or a network,
    until it ends. ``now`` is Unix time, in seconds.

    Raises:
        RequestInvalidError: it says no command.
    """
    command = declared.command or (*config.entrypoint, *config.cmd)
    if not command or not command[0]:
        raise RequestInvalidError("neither its label nor its image says what to run")
    told = {"SCAN_SCOPE": "image", "SCAN_DEADLINE": str(now + int(limits.wall_seconds))}
    env = [entry for entry in config.env if entry.partition("=")[0] not in told]
    if not any(entry.startswith("PATH=") for entry in env):
        env.insert(0, DEFAULT_PATH)
    return Plan(
        command=tuple(command),
        env=(*env, *(f"{name}={value}" for name, value in told.items())),
        user="0:0",
        working_dir=config.working_dir or "/",
        profile="restricted",
        limits=limits,
        exit_code=EXIT_COMPLETE,
        tested="the scanner ends",
    )


def _binds(shown: ShownImage) -> Sequence[Bind]:
    layers = [Bind(path, f"{LAYERS}/{number}") for number, path in enumerate(shown.layers)]
    return (Bind(shown.target, TARGET), *layers)


def _hand_over(root: Path, ids: IdRange, scan: Scan, looking: Looking) -> None:
    """Put what is told of the image into the scanner's own files, and make the folder for its report."""
    owner = (ids.base, ids.base)
    about = {
        "digest": scan.digest,
        "platform": scan.platform,
        "layers": [
            {
                "diff_id": layer.diff_id,
                "digest": str(blob.digest),
                "media_type": blob.media_type,
                "size_bytes": blob.size,
                "created_by": layer.created_by,
            }
            for layer, blob in zip(scan.layers, looking.target.image.manifest.layers, strict=True)
        ],
        "config": parse_json_object(looking.raw_config),
    }
    with open_rootfs(root) as rootfs:
        for path in (IMAGE_FILE, REPORT_FILE):
            rootfs.make_folder(path.rpartition("/")[0], owner=owner)
        rootfs.make_folder(LAYERS, owner=owner)
        rootfs.write_file(IMAGE_FILE, json.dumps(about).encode(), owner=owner)
        document = scan.model_copy(update={"lease": ""}).model_dump_json().encode()
        rootfs.write_file(SCAN_FILE, document, owner=owner)


def _report(upper_fd: int) -> bytes | None:
    """What it left, if it wrote it itself; ``None``: nothing."""
    return Rootfs(upper_fd).read_small(REPORT_FILE, limit_bytes=MAX_REPORT_BYTES)


def _told(
    added: Scan,
    scan: Scan,
    name: str,
    image: str,
    declared: Declaration,
    *,
    run: Run,
    raw: bytes | None,
    gaps: Sequence[Incomplete],
) -> Scan:
    why = _why_failed(run)
    if why is not None:
        return with_failed(added, name, image, why)
    if raw is None:
        return with_failed(added, name, image, f"it left no report at {REPORT_FILE}")
    said = read_said(raw, declared.format, scan)
    lacks = [*gaps]
    if run.exit_code == EXIT_INCOMPLETE:
        lacks.append(Incomplete(scanner=name, reason="it says that it could not look at all"))
    return with_said(added, said, name, image, lacks)


def _why_failed(run: Run) -> str | None:
    """Why a scanner says nothing, by the end of its run; ``None``: it came to its end."""
    last = next((line for line in reversed(run.log.splitlines()) if line.strip()), "")[:_LAST_LINE_MAX]
    said = f": {last}" if last else ""
    if run.oom_killed or run.reason == "oom":
        return f"it needs more memory than it has{said}"
    if run.reason == "exited":
        if run.exit_code in (EXIT_COMPLETE, EXIT_INCOMPLETE):
            return None
        return f"it ended with code {run.exit_code}{said}"
    return f"it did not come to its end ({run.reason}, after {run.seconds:.0f} s){said}"
