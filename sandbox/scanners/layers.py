"""Scans layers, each once for a version of the modules, and keeps what was found beside the snapshots.

``CACHE/scans/<diff ID>.<modules>`` is the result of one layer, shared by images and workers of one host. It
is written under a name of its own, synced, and renamed when whole. A result that another try could better (a
time limit, a full disk) is used and not kept.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import structlog

import sandbox
from registry.oci.digest import Digest
from sandbox.errors import SandboxError
from sandbox.ids import IdRange
from sandbox.images.cache import UNFINISHED, Cache, is_at, locked
from sandbox.scanners.child import CANNOT_CONFINE, Task
from sandbox.scanners.content.engine import Rules, compile_rules
from sandbox.scanners.facts import Alias, Module
from sandbox.scanners.lines import LineFile
from sandbox.scanners.loading import PACKAGES, fingerprint, named_modules
from sandbox.scanners.walk import WalkLimits

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("seatrial.worker")
_PROGRAM = (
    "import sys; sys.path.insert(0, {root!r}); "
    "from sandbox.scanners.child import main; sys.exit(main(sys.argv[1]))"
)
_SAID_BYTES = 4096


@dataclass(frozen=True, slots=True)
class ScanLimits:
    """Seconds of the clock for one layer and for all of an image; ``unpacked_bytes`` of one layer; ``walk``:
    what the reading of one layer is held to."""

    layer_seconds: float = 300.0
    seconds: float = 600.0
    unpacked_bytes: int = 20 * 1024**3
    walk: WalkLimits = field(default_factory=WalkLimits)


@dataclass(frozen=True, slots=True)
class Scanner:
    """What scans: the packages that hold modules, compiled rules for the content search, if it takes part,
    all modules by name and version, and their limits."""

    packages: Sequence[str]
    rules: Rules | None
    modules: Sequence[Module]
    limits: ScanLimits


@dataclass(frozen=True, slots=True)
class LayerResult:
    """What was found in one layer; ``problem`` says why that may not be all."""

    file: BinaryIO
    problem: str = ""

    @property
    def lines(self) -> LineFile:
        return LineFile(self.file)


def make_scanner(rules: Path | None = None) -> Scanner:
    """A scanner with all modules, and with an operator's own ``rules``, a folder. It takes a tenth of a
    second, and a program needs one.

    Raises:
        RulesError: they cannot be used.
    """
    return scanner_of(PACKAGES, compile_rules(rules))


def scanner_of(packages: Sequence[str], rules: Rules | None, limits: ScanLimits | None = None) -> Scanner:
    """A scanner with these modules and rules."""
    return Scanner(packages, rules, named_modules(packages, rules), limits or ScanLimits())


async def layer_result(
    blob: Path,
    diff_id: Digest,
    *,
    cache: Cache,
    scanner: Scanner,
    ids: IdRange,
    seconds: float,
    aliases: Sequence[Alias] = (),
) -> LayerResult:
    """What is known of a layer, or is found out now in at most ``seconds``; with ``aliases`` only of what
    lies at one of them. The caller closes the file.

    Whatever goes wrong with the layer is in the result.

    Raises:
        SandboxError: ``isolation-missing``: this host cannot confine the scan; ``prepare-timeout``: somebody
            else is still at the same layer.
        OSError: the cache cannot be written.
    """
    final = cache.scans / f"{diff_id.algorithm}-{diff_id.encoded}.{fingerprint(scanner.modules, aliases)}"
    known = await asyncio.to_thread(_known, final)
    if known is not None:
        return LayerResult(known)
    lock = cache.locks / f"{final.name}.lock"
    async with locked(lock, seconds, "another run was still scanning a layer that both need"):
        known = await asyncio.to_thread(_known, final)
        if known is not None:
            return LayerResult(known)
        return await _scan(
            blob, diff_id, final, scanner=scanner, ids=ids, seconds=seconds, aliases=tuple(aliases)
        )


async def _scan(
    blob: Path,
    diff_id: Digest,
    final: Path,
    *,
    scanner: Scanner,
    ids: IdRange,
    seconds: float,
    aliases: tuple[Alias, ...],
) -> LayerResult:
    part = final.with_name(f"{final.name}.{secrets.token_hex(4)}{UNFINISHED}")
    file = os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "r+b")
    kept = False
    try:
        fcntl.flock(file, fcntl.LOCK_EX)  # tells the sweep that somebody is at it
        with blob.open("rb") as layer, tempfile.TemporaryFile(dir=final.parent) as spool:
            rules = scanner.rules
            if rules is not None:
                spool.write(rules.serialised)
                spool.flush()
            task = Task(
                parent_pid=os.getpid(),
                base=ids.base,
                size=ids.size,
                algorithm=diff_id.algorithm,
                packages=tuple(scanner.packages),
                rules="" if rules is None else rules.digest,
                rules_bytes=0 if rules is None else len(rules.serialised),
                spool_fd=spool.fileno(),
                max_bytes=scanner.limits.unpacked_bytes,
                # Two threads work: one decompresses, one reads.
                cpu_seconds=2 * (int(seconds) + 1),
                limits=scanner.limits.walk,
                aliases=aliases,
            )
            problem = await _run_child(task, layer, file, seconds)
        result = await asyncio.to_thread(_judged, LayerResult(file, problem), diff_id)
        end = result.lines.end()
        if not result.problem and end is not None and end.lasting:
            await asyncio.to_thread(_publish, file, part, final)
            kept = True
        return result
    except BaseException:
        file.close()
        raise
    finally:
        if not kept:
            part.unlink(missing_ok=True)


async def _run_child(task: Task, layer: BinaryIO, result: BinaryIO, seconds: float) -> str:
    """Have a layer scanned into ``result``; why that is not all, or nothing."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-c",
        _program(),
        task.as_json(),
        stdin=layer,
        stdout=result,
        stderr=asyncio.subprocess.PIPE,
        env={},
        process_group=0,
        pass_fds=(task.spool_fd,),
        limit=_SAID_BYTES,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(seconds):
            said = await process.stderr.read(_SAID_BYTES)
            await process.wait()
    except TimeoutError:
        return f"was not scanned in the {seconds:.0f} s that there were for it"
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    text = "".join(c if c.isprintable() else " " for c in said.decode("utf-8", "replace"))
    if process.returncode == 0:
        return ""
    if process.returncode == CANNOT_CONFINE:
        raise SandboxError("isolation-missing", text[:500])
    log.warning("scanning failed", code=process.returncode, said=text[-2000:])
    return f"scanning it ended with code {process.returncode}"


def _program() -> str:
    return _PROGRAM.format(root=str(Path(sandbox.__file__).resolve().parent.parent))


def _judged(result: LayerResult, diff_id: Digest) -> LayerResult:
    end = result.lines.end()
    if result.problem:
        return result
    if end is None:
        return replace(result, problem="scanning it gave no end")
    if end.diff_id and end.diff_id != str(diff_id):
        return replace(result, problem=f"it unpacks to {end.diff_id[:80]}, not to its diff ID")
    # Without a diff ID a line says why it was not read to its end.
    return result


def _known(final: Path) -> BinaryIO | None:
    try:
        file = os.fdopen(os.open(final, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW), "r+b")
    except FileNotFoundError:
        return None
    if not is_at(final, file.fileno()) or LineFile(file).end() is None:
        file.close()
        return None
    os.utime(file.fileno())
    return file


def _publish(file: BinaryIO, part: Path, final: Path) -> None:
    os.fsync(file.fileno())
    part.rename(final)
