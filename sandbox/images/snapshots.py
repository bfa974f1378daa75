"""Snapshots: layers unpacked once, read-only, keyed by chain ID, shared by images and workers of one host.

``CACHE/snapshots/<chain>/fs`` is one layer as overlay takes it; ``meta.json`` beside it has its counts, and
``blobs/`` the digests of the blobs that were seen to unpack to it: an image config can name any diff ID. Made
under ``<chain>.tmp`` and renamed when whole, under a lock that a killed worker gives back. Nothing is synced
to disk, so a snapshot counts only for the boot that made it: what a power cut left half written is made anew.

As root of the host, files keep the image's own ids and every run sees them through an id-mapped mount. Inside
a user namespace that cannot be had; there the files belong to the one range that all runs use.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from registry.contract.limits import PrepareLimits
from registry.oci.chains import chain_ids
from registry.oci.digest import Digest
from registry.oci.strictjson import JsonInvalidError, parse_json_object
from sandbox import syscalls as kernel
from sandbox.errors import SandboxError
from sandbox.ids import IdRange, leased_ids
from sandbox.images.cache import LOCK_POLL_SECONDS, UNFINISHED, Use, locked, remove_path
from sandbox.images.pull import PulledImage
from sandbox.images.unpack import LayerCounts, LayerTask, unpack_layer

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_BUSY = "another run was still unpacking a layer that both need"
_RENAME_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """An image whose layers are unpacked. ``lower`` are folders as overlay takes them, base first.

    ``mapped`` says that files have the image's own ids, else they belong to the range of the worker's user
    namespace. ``counts`` has one entry for each layer.
    """

    image: PulledImage
    lower: tuple[Path, ...]
    mapped: bool
    counts: tuple[LayerCounts, ...]


async def prepare(
    image: PulledImage, limits: PrepareLimits, use: Use, *, reserve_bytes: int = 0
) -> PreparedImage:
    """Unpack what is not yet there, layer by layer, each in a confined child; at most ``limits.seconds`` from
    now on (a caller who has pulled passes what is left). The snapshots are held by ``use``, and no longer the
    blobs. ``reserve_bytes`` of the disk are left free.

    Raises:
        SandboxError: ``layer-invalid``, ``digest-mismatch``, ``too-large``, ``too-many-files``,
            ``prepare-timeout``, ``worker-disk``, ``worker-error``, ``isolation-missing``.
    """
    mapped = kernel.initial_user_namespace()
    deadline_at = time.monotonic() + limits.seconds
    lower: list[Path] = []
    counts: list[LayerCounts] = []
    with ThreadPoolExecutor(1, "snapshots") as executor, leased_ids() as ids:
        making = _Making(use, ids, executor, mapped)
        for number, chain in enumerate(chain_ids(image.config.diff_ids)):
            name = f"{_key(chain, ids, mapped=mapped)}{UNFINISHED}"
            task = LayerTask(
                blob=image.layers[number],
                diff_id=image.config.diff_ids[number],
                number=number + 1,
                work=use.cache.snapshots / name,
                lower=tuple(lower),
                max_bytes=limits.unpacked_bytes - sum(one.written_bytes for one in counts),
                max_files=limits.files - sum(one.files for one in counts),
                reserve_bytes=reserve_bytes,
                seconds=deadline_at - time.monotonic(),
            )
            counts.append(await making.layer(task))
            lower.append(_finished(task.work) / "fs")
            use.release(task.blob)
    return PreparedImage(image, tuple(lower), mapped, tuple(counts))


@dataclass(frozen=True, slots=True)
class _Making:
    """Making the layers of one image."""

    use: Use
    ids: IdRange
    executor: Executor
    mapped: bool

    async def layer(self, task: LayerTask) -> LayerCounts:
        """The counts of the layer, which is there and held."""
        final = _finished(task.work)
        known = self._known(final, task.blob)
        if known is None:
            lock = self.use.cache.locks / f"{final.name}.lock"
            async with locked(lock, task.seconds, _BUSY):
                known = self._known(final, task.blob)
                if known is None:
                    return await self._make(task)
        _check_budget(task, known)
        return known

    def _known(self, final: Path, blob: Path) -> LayerCounts | None:
        """The counts of a snapshot that ``blob`` is known to unpack to, which is then held."""
        if not self.use.hold(final):
            return None
        counts = finished_counts(final) if (final / "blobs" / _blob_name(blob)).exists() else None
        if counts is None:
            self.use.release(final)
        return counts

    async def _make(self, task: LayerTask) -> LayerCounts:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self.executor, _lay_out, task, 0 if self.mapped else self.ids.base)
            counts = await unpack_layer(task, self.ids, mapped=self.mapped)
            await loop.run_in_executor(self.executor, _publish, task, counts, self.use)
        except OSError as error:
            raise SandboxError(
                "worker-disk",
                f"the worker cannot store layer {task.number}: {error.strerror}",
                retryable=True,
            ) from None
        finally:
            await asyncio.shield(loop.run_in_executor(self.executor, remove_path, task.work))
        return counts


def snapshot_bytes(snapshot: Path) -> int | None:
    """What a snapshot takes on disk, about; ``None`` where it is not one that this boot made."""
    counts = finished_counts(snapshot)
    return None if counts is None else counts.disk_bytes


def _key(chain: Digest, ids: IdRange, *, mapped: bool) -> str:
    key = f"{chain.algorithm}-{chain.encoded}"
    return key if mapped else f"{key}-{ids.base}-{ids.size}"


def _finished(work: Path) -> Path:
    return work.with_name(work.name.removesuffix(UNFINISHED))


def _blob_name(blob: Path) -> str:
    return f"{blob.parent.name}-{blob.name}"


def _remember(snapshot: Path, blob: Path) -> None:
    (snapshot / "blobs").mkdir(mode=0o700, exist_ok=True)
    (snapshot / "blobs" / _blob_name(blob)).touch()


def finished_counts(snapshot: Path) -> LayerCounts | None:
    """The counts of a whole snapshot; ``None`` where it is none, or of another boot or version."""
    try:
        meta = parse_json_object((snapshot / "meta.json").read_bytes())
    except (FileNotFoundError, NotADirectoryError, JsonInvalidError):
        return None
    if meta.pop("boot_id", None) != _BOOT_ID.read_text(encoding="ascii").strip():
        return None
    numbers = {name: value for name, value in meta.items() if isinstance(value, int)}
    if set(numbers) != {one.name for one in fields(LayerCounts)}:
        return None
    return LayerCounts(**numbers)


def _check_budget(task: LayerTask, counts: LayerCounts) -> None:
    where = f"layer {task.number}"
    if counts.written_bytes > task.max_bytes:
        raise SandboxError(
            "too-large", f"{where} takes the image over its limit; {task.max_bytes} bytes were left of it"
        )
    if counts.files > task.max_files:
        raise SandboxError(
            "too-many-files",
            f"{where} takes the image over its limit; {task.max_files} entries were left of it",
        )


def _lay_out(task: LayerTask, owner: int) -> None:
    remove_path(task.work)
    if finished_counts(_finished(task.work)) is None:
        remove_path(_finished(task.work))
    task.work.mkdir(mode=0o700)
    for name in ("fs", "work", "mnt"):
        (task.work / name).mkdir(mode=0o755)
        os.chown(task.work / name, owner, owner)
    if task.lower:
        # What the layer does not say about the root folder stays as it was below.
        below = os.stat(task.lower[-1], follow_symlinks=False)
        os.chown(task.work / "fs", below.st_uid, below.st_gid)
        os.chmod(task.work / "fs", below.st_mode & 0o7777)


def _publish(task: LayerTask, counts: LayerCounts, use: Use) -> None:
    work, final = task.work, _finished(task.work)
    if use.hold(final):
        if finished_counts(final) is not None:
            # From another blob, and perhaps mounted by a run: all that is new is that this one is the same.
            _remember(final, task.blob)
            return
        use.release(final)
    _remember(work, task.blob)
    boot_id = _BOOT_ID.read_text(encoding="ascii").strip()
    (work / "meta.json").write_text(json.dumps({**asdict(counts), "boot_id": boot_id}), encoding="ascii")
    for name in ("work", "mnt"):
        remove_path(work / name)
    fd = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        # Before it has its name: nobody can collect it in between.
        fcntl.flock(fd, fcntl.LOCK_SH)
        _rename(work, final)
    except OSError:
        os.close(fd)
        raise
    use.adopt(final, fd)


def _rename(work: Path, final: Path) -> None:
    deadline_at = time.monotonic() + _RENAME_SECONDS
    while True:
        try:
            work.rename(final)
            return
        except OSError as error:
            # What stood there may be just about to be collected.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or time.monotonic() > deadline_at:
                raise
        time.sleep(LOCK_POLL_SECONDS)
