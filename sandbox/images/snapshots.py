"""Snapshots: layers unpacked once, read-only, keyed by chain ID, shared by images and workers of one host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from registry.contract.limits import PrepareLimits
from sandbox.images.pull import PulledImage


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """An image whose layers are unpacked. ``lower`` are folders as overlay takes them, base first."""

    image: PulledImage
    lower: tuple[Path, ...]


class Snapshots:
    """The snapshots under ``state``."""

    def __init__(self, state: Path) -> None:
        self._state = state

    async def prepare(self, image: PulledImage, limits: PrepareLimits) -> PreparedImage:
        """Unpack what is not yet there, layer by layer, each in a confined child.

        Raises:
            SandboxError: ``layer-invalid``, ``too-large``, ``too-many-files``, ``prepare-timeout``,
                ``worker-disk``, ``isolation-missing``.
        """
        raise NotImplementedError
