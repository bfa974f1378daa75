"""Runs the confined child that unpacks one layer, and judges what it says."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import structlog

import sandbox
from registry.contract.report import ErrorReason
from registry.oci.digest import Digest
from registry.oci.strictjson import JsonInvalidError, parse_json_object
from sandbox.errors import SandboxError
from sandbox.ids import IdRange

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("seatrial.worker")
_ANSWER_MAX_BYTES = 64 * 1024
_COUNTS = ("written_bytes", "files", "skipped_special", "skipped_xattrs", "setuid", "disk_bytes")
_PROGRAM = (
    "import sys; sys.path.insert(0, {root!r}); "
    "from sandbox.images.unpack_child import main; sys.exit(main(sys.argv[1]))"
)


@dataclass(frozen=True, slots=True)
class LayerCounts:
    """What a layer came to: bytes of files, entries, special files and extended attributes left out, files
    with a set-id bit (harmless in a run, kept), and about what it takes on disk."""

    written_bytes: int
    files: int
    skipped_special: int
    skipped_xattrs: int
    setuid: int
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class LayerTask:
    """One layer: the verified ``blob``, its diff ID, its number from 1 for messages, the prepared ``work``
    folder (``fs``, ``work``, ``mnt``), the layers below (base first), what is left of the budgets, what of
    the disk is left free."""

    blob: Path
    diff_id: Digest
    number: int
    work: Path
    lower: Sequence[Path]
    max_bytes: int
    max_files: int
    reserve_bytes: int
    seconds: float


async def unpack_layer(task: LayerTask, ids: IdRange, *, mapped: bool) -> LayerCounts:
    """Unpack into ``task.work``/fs; ``mapped`` says that files keep the image's own ids on disk.

    Raises:
        SandboxError: ``layer-invalid``, ``digest-mismatch`` (it unpacks to something else than the diff ID),
            ``too-large``, ``too-many-files``, ``prepare-timeout``, ``worker-disk``, ``isolation-missing``,
            ``worker-error``.
    """
    argument = json.dumps(
        {
            "parent_pid": os.getpid(),
            "work": str(task.work),
            "lower": [str(path) for path in task.lower],
            "base": ids.base,
            "size": ids.size,
            "mapped": mapped,
            "userxattr": not mapped,
            "algorithm": task.diff_id.algorithm,
            "max_bytes": task.max_bytes,
            "max_files": task.max_files,
            "reserve_bytes": task.reserve_bytes,
            # Two threads work: one decompresses, one writes.
            "cpu_seconds": 2 * max(1, int(task.seconds) + 1),
        }
    )
    where = f"layer {task.number} ({str(task.diff_id)[:19]})"
    with task.blob.open("rb") as blob:
        answer = await _run_child(argument, blob.fileno(), task.seconds, where)
    if "error" in answer:
        raise _refused(answer, where)
    unpacked = answer.get("diff_id")
    if unpacked != str(task.diff_id):
        raise SandboxError(
            "digest-mismatch",
            f"{where} unpacks to {str(unpacked)[:80]}, not to the diff ID that the image config gives",
        )
    return _counts(answer, where)


async def _run_child(argument: str, blob_fd: int, seconds: float, where: str) -> dict[str, object]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-c",
        _program(),
        argument,
        stdin=blob_fd,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={},
        process_group=0,
        limit=_ANSWER_MAX_BYTES,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(seconds):
            out = await process.stdout.read(_ANSWER_MAX_BYTES)
            error = await process.stderr.read(_ANSWER_MAX_BYTES)
            await process.wait()
    except TimeoutError:
        raise SandboxError(
            "prepare-timeout", f"{where} was not unpacked in the {seconds:.0f} s that were left"
        ) from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    try:
        return parse_json_object(out)
    except JsonInvalidError:
        log.warning(
            "unpacking failed", code=process.returncode, said=error.decode("utf-8", "replace")[-2000:]
        )
        raise SandboxError(
            "worker-error", f"{where}: unpacking ended with code {process.returncode}", retryable=True
        ) from None


def _program() -> str:
    return _PROGRAM.format(root=str(Path(sandbox.__file__).resolve().parent.parent))


def _refused(answer: dict[str, object], where: str) -> SandboxError:
    # The child has read hostile bytes: nothing it says is more than text for a person.
    reason = answer["error"]
    member = answer.get("member")
    message = (
        f"{where}{f': member {str(member)[:200]}' if member else ''}: {str(answer.get('message'))[:500]}"
    )
    reasons: tuple[ErrorReason, ...] = get_args(ErrorReason)
    known: ErrorReason = next((one for one in reasons if one == reason), "worker-error")
    return SandboxError(known, message, retryable=known in ("worker-disk", "worker-error"))


def _counts(answer: dict[str, object], where: str) -> LayerCounts:
    values = [answer.get(name) for name in _COUNTS]
    numbers = [value for value in values if isinstance(value, int) and 0 <= value < 2**63]
    if len(numbers) != len(_COUNTS):
        raise SandboxError("worker-error", f"{where}: unpacking gave no counts", retryable=True)
    return LayerCounts(*numbers)
