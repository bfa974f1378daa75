"""Collecting the cache: what is used least goes first, until quota and reserve are kept; what is used stays.

Safe against being killed anywhere: a blob goes in one step, and a snapshot is moved aside in one step before
anything in it is removed, so the next collection finds what is left of it by its name.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from registry.contract.limits import UNPACKED_FACTOR
from registry.contract.sizes import shown_size
from sandbox.errors import SandboxError
from sandbox.images.cache import GONE, UNFINISHED, Cache, remove_path, try_alone, try_lock
from sandbox.images.snapshots import snapshot_bytes

GIB = 1024**3
QUOTA_SHARE, QUOTA_MAX_BYTES = 0.5, 100 * GIB
RESERVE_SHARE, RESERVE_MAX_BYTES = 0.05, 10 * GIB
FILES_LEFT = 0.1
"""The share of a disk's files that is left alone: twice of what unpacking leaves, so that an image that did
not fit the last time may the next."""
_COLLECTING = "collecting"
_LOCK = ".lock"
_PARTS = f"*{UNFINISHED}"
_NEW_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """``quota_bytes``: what the cache may hold; ``reserve_bytes``: free disk that is left alone."""

    quota_bytes: int
    reserve_bytes: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One blob, snapshot or scan of a layer. ``used_ns`` is when it was last used, in nanoseconds since
    1970."""

    kind: Literal["blob", "snapshot", "scan"]
    path: Path
    size_bytes: int
    used_ns: int
    in_use: bool


@dataclass(frozen=True, slots=True)
class Figures:
    """The cache as it was found, and the disk below it. ``room_bytes``: what more could be stored;
    ``most_bytes``: what could be with nothing else on the disk."""

    blobs: int
    snapshots: int
    size_bytes: int
    in_use_bytes: int
    free_bytes: int
    room_bytes: int
    most_bytes: int


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection removed: whole entries, and what killed workers and earlier boots had left."""

    removed: tuple[Entry, ...] = ()
    left_over: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.removed)


def disk_bytes(cache: Cache) -> int:
    """The size of the disk that the cache is on."""
    disk = os.statvfs(cache.folder)
    return disk.f_blocks * disk.f_frsize


def default_limits(cache: Cache) -> CacheLimits:
    """Half of the disk but at most 100 GiB, and a twentieth of it but at most 10 GiB left free."""
    total = disk_bytes(cache)
    return CacheLimits(
        quota_bytes=min(int(total * QUOTA_SHARE), QUOTA_MAX_BYTES),
        reserve_bytes=min(int(total * RESERVE_SHARE), RESERVE_MAX_BYTES),
    )


def list_entries(cache: Cache) -> list[Entry]:
    """Everything whole in the cache, least recently used first."""
    return sorted(_entries(cache), key=lambda entry: (entry.used_ns, entry.path))


def look(cache: Cache, limits: CacheLimits) -> Figures:
    """The figures of the cache."""
    entries = list_entries(cache)
    size = sum(entry.size_bytes for entry in entries)
    in_use = sum(entry.size_bytes for entry in entries if entry.in_use)
    free = _free_bytes(cache)
    return Figures(
        blobs=sum(entry.kind == "blob" for entry in entries),
        snapshots=sum(entry.kind == "snapshot" for entry in entries),
        size_bytes=size,
        in_use_bytes=in_use,
        free_bytes=free,
        room_bytes=max(0, min(free + size - in_use - limits.reserve_bytes, limits.quota_bytes - in_use)),
        most_bytes=max(0, min(disk_bytes(cache) - limits.reserve_bytes, limits.quota_bytes)),
    )


def collect(cache: Cache, limits: CacheLimits, *, room_bytes: int = 0) -> Collected:
    """Remove what was used least recently until ``limits`` are kept, with room for ``room_bytes`` more, and
    the disk has files left: an empty one takes no byte of it. Blocking. Nothing where somebody else is at it
    just now."""
    with try_lock(cache.locks / _COLLECTING) as held:
        if not held:
            return Collected()
        left_over = tuple(_remove_left_over(cache))
        entries = list_entries(cache)
        size = sum(entry.size_bytes for entry in entries)
        removed = []
        for entry in entries:
            kept = (
                size + room_bytes <= limits.quota_bytes
                and _free_bytes(cache) >= limits.reserve_bytes + room_bytes
                and _has_files(cache)
            )
            if kept:
                break
            if _remove(entry.path):
                size -= entry.size_bytes
                removed.append(entry)
        return Collected(tuple(removed), left_over)


def make_room(cache: Cache, limits: CacheLimits, missing_bytes: int) -> None:
    """Make room for an image of which so many compressed bytes are missing. Blocking.

    Raises:
        SandboxError: ``worker-disk``, retryable: there is not so much, whatever is collected.
    """
    if not missing_bytes:
        return
    needed = missing_bytes * UNPACKED_FACTOR
    room = look(cache, limits).room_bytes
    if needed > room:
        raise SandboxError(
            "worker-disk",
            f"the image needs about {shown_size(needed)} of disk ({UNPACKED_FACTOR} times the "
            f"{shown_size(missing_bytes)} of its layers), and the worker has room for {shown_size(room)}",
            retryable=True,
        )
    collect(cache, limits, room_bytes=needed)


def _entries(cache: Cache) -> Iterator[Entry]:
    for path in cache.blobs.glob("*/*"):
        if not path.name.endswith(UNFINISHED):
            yield from _entry("blob", path)
    for path in cache.snapshots.iterdir():
        if not path.name.endswith((UNFINISHED, GONE)):
            yield from _entry("snapshot", path)
    for path in cache.scans.iterdir():
        if not path.name.endswith(UNFINISHED):
            yield from _entry("scan", path)


def _entry(kind: Literal["blob", "snapshot", "scan"], path: Path) -> Iterator[Entry]:
    try:
        found = path.stat(follow_symlinks=False)
        size = snapshot_bytes(path) if kind == "snapshot" else found.st_blocks * 512
    except FileNotFoundError:
        return
    with try_alone(path) as free:
        in_use = not free
    yield Entry(kind, path, size or 0, found.st_mtime_ns, in_use)


def _remove(path: Path) -> bool:
    """Remove a blob or snapshot unless it is used; false where it stays."""
    with try_alone(path) as alone:
        if not alone:
            return False
        if path.is_dir():
            aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}{GONE}")
            path.rename(aside)
            remove_path(aside)
        else:
            path.unlink()
        return True


def _remove_left_over(cache: Cache) -> Iterator[str]:
    """What can never be used: begun and not finished, half removed, of an earlier boot."""
    for path in sorted(cache.snapshots.iterdir()):
        if path.name.endswith(GONE):
            with try_alone(path) as alone:
                if alone:
                    remove_path(path)
                    yield f"removed the rest of the snapshot {path.name}"
        elif path.name.endswith(UNFINISHED):
            with try_lock(cache.locks / f"{path.name.removesuffix(UNFINISHED)}{_LOCK}") as held:
                if held:
                    remove_path(path)
                    yield f"removed the unfinished snapshot {path.name}"
        elif snapshot_bytes(path) is None and _remove(path):
            yield f"removed the snapshot {path.name} of an earlier boot"
    for kind, parts in (("blob", cache.blobs.glob(f"*/*{UNFINISHED}")), ("scan", cache.scans.glob(_PARTS))):
        for part in sorted(parts):
            with try_alone(part) as alone:
                # One just made gets its lock the next moment.
                if alone and time.time() - part.stat().st_mtime > _NEW_SECONDS:
                    part.unlink()
                    yield f"removed the unfinished {kind} {part.name}"
    for lock in cache.locks.glob(f"*{_LOCK}"):
        snapshot = cache.snapshots / lock.name.removesuffix(_LOCK)
        with try_lock(lock) as held:
            if held and not snapshot.exists() and not snapshot.with_name(snapshot.name + UNFINISHED).exists():
                lock.unlink()


def _free_bytes(cache: Cache) -> int:
    disk = os.statvfs(cache.folder)
    return disk.f_bavail * disk.f_frsize


def _has_files(cache: Cache) -> bool:
    disk = os.statvfs(cache.folder)
    # Both are 0 where a file system makes them as they are needed.
    return disk.f_favail >= disk.f_files * FILES_LEFT
