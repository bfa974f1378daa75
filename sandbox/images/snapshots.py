"""Snapshots: layers unpacked once, read-only, keyed by chain ID, shared by images and workers of one host.

``STATE/snapshots/<chain>/fs`` is one layer as overlay takes it; ``meta.json`` beside it has its counts, and
``blobs/`` the digests of the blobs that were seen to unpack to it: an image config can name any diff ID. Made
under ``<chain>.tmp`` and renamed when whole, under a lock that a killed worker gives back. Nothing is synced
to disk, so a snapshot counts only for the boot that made it: what a power cut left half written is made anew.

As root of the host, files keep the image's own ids and every run sees them through an id-mapped mount. Inside
a user namespace that cannot be had; there the files belong to the one range that all runs use.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from registry.contract.limits import PrepareLimits
from registry.oci.digest import Digest
from registry.oci.strictjson import JsonInvalidError, parse_json_object
from sandbox import syscalls as kernel
from sandbox.errors import SandboxError
from sandbox.ids import IdRange, leased_ids
from sandbox.images.layertree import remove_folder
from sandbox.images.pull import PulledImage
from sandbox.images.unpack import LayerCounts, LayerTask, unpack_layer

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LOCK_POLL_SECONDS = 0.05
UNFINISHED = ".tmp"


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


class Snapshots:
    """The snapshots under ``state``."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "snapshots"
        self._locks = state / "locks"

    async def prepare(self, image: PulledImage, limits: PrepareLimits) -> PreparedImage:
        """Unpack what is not yet there, layer by layer, each in a confined child; at most
        ``limits.seconds`` from now on (a caller who has pulled passes what is left).

        Raises:
            SandboxError: ``layer-invalid``, ``digest-mismatch``, ``too-large``, ``too-many-files``,
                ``prepare-timeout``, ``worker-disk``, ``worker-error``, ``isolation-missing``.
        """
        for folder in (self._folder, self._locks):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mapped = kernel.initial_user_namespace()
        deadline_at = time.monotonic() + limits.seconds
        lower: list[Path] = []
        counts: list[LayerCounts] = []
        with ThreadPoolExecutor(1, "snapshots") as executor, leased_ids() as ids:
            for number, chain in enumerate(chain_ids(image.config.diff_ids)):
                task = LayerTask(
                    blob=image.layers[number],
                    diff_id=image.config.diff_ids[number],
                    number=number + 1,
                    work=self._folder / f"{_key(chain, ids, mapped=mapped)}{UNFINISHED}",
                    lower=tuple(lower),
                    max_bytes=limits.unpacked_bytes - sum(one.written_bytes for one in counts),
                    max_files=limits.files - sum(one.files for one in counts),
                    seconds=deadline_at - time.monotonic(),
                )
                counts.append(await self._layer(task, ids, executor, mapped=mapped))
                lower.append(_finished(task.work) / "fs")
        return PreparedImage(image, tuple(lower), mapped, tuple(counts))

    async def _layer(self, task: LayerTask, ids: IdRange, executor: Executor, *, mapped: bool) -> LayerCounts:
        final = _finished(task.work)
        known = _known(final, task.blob)
        if known is None:
            async with _locked(self._locks / f"{final.name}.lock", task.seconds):
                known = _known(final, task.blob)
                if known is None:
                    return await self._make(task, ids, executor, mapped=mapped)
        _check_budget(task, known)
        return known

    async def _make(self, task: LayerTask, ids: IdRange, executor: Executor, *, mapped: bool) -> LayerCounts:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(executor, _lay_out, task, 0 if mapped else ids.base)
            counts = await unpack_layer(task, ids, mapped=mapped)
            await loop.run_in_executor(executor, _publish, task, counts)
        except OSError as error:
            raise SandboxError(
                "worker-disk",
                f"the worker cannot store layer {task.number}: {error.strerror}",
                retryable=True,
            ) from None
        finally:
            await asyncio.shield(loop.run_in_executor(executor, remove_path, task.work))
        return counts


def chain_ids(diff_ids: Sequence[Digest]) -> Iterator[Digest]:
    """The chain ID of each layer (image-spec, config.md, "Layer ChainID")."""
    chain: Digest | None = None
    for diff_id in diff_ids:
        if chain is None:
            chain = diff_id
        else:
            encoded = hashlib.sha256(f"{chain} {diff_id}".encode()).hexdigest()
            chain = Digest("sha256", encoded)
        yield chain


def remove_path(path: Path) -> None:
    """Remove a folder and all below it, however deep, following nothing. Not being there is fine."""
    with suppress(FileNotFoundError):
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            remove_folder(parent, os.fsencode(path.name))
        finally:
            os.close(parent)


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold the lock at ``path`` if nobody else does, and say whether."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


@asynccontextmanager
async def _locked(path: Path, seconds: float) -> AsyncIterator[None]:
    deadline_at = time.monotonic() + seconds
    while True:
        with try_lock(path) as held:
            if held:
                yield
                return
        if time.monotonic() > deadline_at:
            raise SandboxError("prepare-timeout", "another run was still unpacking a layer that both need")
        await asyncio.sleep(_LOCK_POLL_SECONDS)


def _key(chain: Digest, ids: IdRange, *, mapped: bool) -> str:
    key = f"{chain.algorithm}-{chain.encoded}"
    return key if mapped else f"{key}-{ids.base}-{ids.size}"


def _finished(work: Path) -> Path:
    return work.with_name(work.name.removesuffix(UNFINISHED))


def _known(final: Path, blob: Path) -> LayerCounts | None:
    """The counts of a snapshot that ``blob`` is known to unpack to."""
    return _finished_counts(final) if (final / "blobs" / _blob_name(blob)).exists() else None


def _blob_name(blob: Path) -> str:
    return f"{blob.parent.name}-{blob.name}"


def _remember(snapshot: Path, blob: Path) -> None:
    (snapshot / "blobs").mkdir(mode=0o700, exist_ok=True)
    (snapshot / "blobs" / _blob_name(blob)).touch()


def _finished_counts(final: Path) -> LayerCounts | None:
    try:
        meta = parse_json_object((final / "meta.json").read_bytes())
    except (FileNotFoundError, NotADirectoryError, JsonInvalidError):
        return None
    if meta.pop("boot_id", None) != _BOOT_ID.read_text(encoding="ascii").strip():
        return None
    return LayerCounts(**{name: value for name, value in meta.items() if isinstance(value, int)})


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
    if _finished_counts(_finished(task.work)) is None:
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


def _publish(task: LayerTask, counts: LayerCounts) -> None:
    work, final = task.work, _finished(task.work)
    if _finished_counts(final) is not None:
        # From another blob, and perhaps mounted by a run: all that is new is that this one is the same.
        _remember(final, task.blob)
        return
    _remember(work, task.blob)
    boot_id = _BOOT_ID.read_text(encoding="ascii").strip()
    (work / "meta.json").write_text(json.dumps({**asdict(counts), "boot_id": boot_id}), encoding="ascii")
    for name in ("work", "mnt"):
        remove_path(work / name)
    work.rename(final)
