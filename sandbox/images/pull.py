"""Pull one image for one platform: every byte is verified by digest and size before it is used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from registry.contract.limits import PrepareLimits
from registry.oci.digest import Digest
from registry.oci.imageconfig import ImageConfig
from registry.oci.manifest import Manifest
from registry.oci.platform import Platform
from sandbox.images.source import ImageSource


@dataclass(frozen=True, slots=True)
class PulledImage:
    """A verified image. ``layers`` are verified blobs on disk, base first, one for each diff ID."""

    digest: Digest
    platform: Platform
    manifest: Manifest
    config: ImageConfig
    layers: tuple[Path, ...]


async def pull(
    source: ImageSource, reference: str, *, platform: Platform, state: Path, limits: PrepareLimits
) -> PulledImage:
    """Fetch the image that ``reference`` (a tag or a digest) names, for ``platform``, into ``state``/blobs.

    Raises:
        SandboxError: ``pull-failed`` (retryable where another try could help), ``digest-mismatch``,
            ``manifest-invalid``, ``config-invalid``, ``platform-unsupported``, ``too-large``,
            ``prepare-timeout``, ``worker-disk``.
    """
    raise NotImplementedError
