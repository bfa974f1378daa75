"""The root file system of one run: snapshots below, one bounded writable layer above."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from sandbox.ids import IdRange
from sandbox.images.snapshots import PreparedImage


def mounted_rootfs(
    prepared: PreparedImage, run_dir: Path, ids: IdRange, *, written_bytes: int
) -> AbstractAsyncContextManager[Path]:
    """The image mounted at ``run_dir``/rootfs (nosuid, nodev), its ids shifted to ``ids``; at most
    ``written_bytes`` can be written to it (ENOSPC after that). On exit everything is unmounted and removed.

    ``run_dir`` exists, belongs to this run alone, and each of its parents can be entered by everybody (0711).

    Raises:
        SandboxError: ``worker-disk``, ``isolation-missing``, ``worker-error``.
    """
    raise NotImplementedError


def sweep(state: Path) -> list[str]:
    """Unmount and remove what killed workers left under ``state`` (mounts, loop devices, run folders,
    unfinished snapshots and blobs); returns a line for each thing done. Blocking; call it at start.

    Runs that are alive hold a lock in their run folder and are left alone.
    """
    raise NotImplementedError
