"""Pull one image for one platform: every byte is verified by digest and size before it is used."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from registry.contract.limits import PrepareLimits
from registry.errors import SeatrialError
from registry.oci import mediatypes
from registry.oci.chains import chain_ids
from registry.oci.descriptor import ATTESTATION_ANNOTATION, Descriptor
from registry.oci.digest import Digest, digest_of
from registry.oci.imageconfig import MAX_BYTES as CONFIG_MAX_BYTES
from registry.oci.imageconfig import ImageConfig, parse_image_config
from registry.oci.manifest import Manifest, parse_manifest
from registry.oci.platform import Platform
from sandbox.errors import SandboxError
from sandbox.images.cache import UNFINISHED, Use
from sandbox.images.source import ImageSource

LAYERS_MAX = 500
"""As many as the kernel's overlay takes."""
_INDEX_DEPTH_MAX = 4
_MANIFESTS_MAX = 64
_WRITE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class PulledImage:
    """A verified image. ``layers`` are verified blobs on disk, base first, one for each diff ID."""

    digest: Digest
    platform: Platform
    manifest: Manifest
    config: ImageConfig
    layers: tuple[Path, ...]


async def pull(
    source: ImageSource,
    reference: str,
    *,
    platform: Platform,
    use: Use,
    limits: PrepareLimits,
    on_size: Callable[[int], None] = lambda _: None,
) -> PulledImage:
    """Fetch the image that ``reference`` (a tag or a digest) names, for a host of ``platform``, into the
    cache, in at most ``limits.seconds``. Its blobs are held by ``use``.

    ``on_size`` is told, before any layer is fetched, how many bytes of layers are neither here nor unpacked;
    what it raises ends the pull.

    Raises:
        SandboxError: ``pull-failed`` (retryable where another try could help), ``digest-mismatch``,
            ``manifest-invalid``, ``config-invalid``, ``platform-unsupported``, ``too-large``,
            ``prepare-timeout``, ``worker-disk``.
    """
    try:
        async with asyncio.timeout(limits.seconds):
            with ThreadPoolExecutor(1, "pull") as executor:
                return await _Pull(source, platform, use, limits, executor).image(reference, on_size)
    except TimeoutError:
        raise SandboxError(
            "prepare-timeout", f"the image was not pulled within {limits.seconds:.0f} s"
        ) from None
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        message = "the worker's disk is full" if full else f"the worker cannot store it: {error.strerror}"
        raise SandboxError("worker-disk", message, retryable=True) from None


async def read_config(source: ImageSource, reference: str, *, platform: Platform, use: Use) -> ImageConfig:
    """What the image that ``reference`` names says about how it is run; none of its layers is fetched.

    Raises:
        SandboxError: as :func:`pull`.
    """
    with ThreadPoolExecutor(1, "pull") as executor:
        pulling = _Pull(source, platform, use, PrepareLimits(), executor)
        return (await pulling.found(reference)).config


@dataclass(frozen=True, slots=True)
class _Found:
    digest: Digest
    manifest: Manifest
    config: ImageConfig


class _Pull:
    def __init__(
        self,
        source: ImageSource,
        platform: Platform,
        use: Use,
        limits: PrepareLimits,
        executor: ThreadPoolExecutor,
    ) -> None:
        self._source = source
        self._platform = platform
        self._use = use
        self._limits = limits
        self._executor = executor
        self._seen: set[Digest] = set()
        self._platforms: list[str] = []

    async def found(self, reference: str) -> _Found:
        raw, media_type = await self._source.manifest(reference)
        if ":" in reference:
            digest = digest_of(raw, reference.partition(":")[0])
            if str(digest) != reference:
                raise SandboxError("digest-mismatch", f"the manifest is {digest}, not {reference[:200]}")
        else:
            digest = digest_of(raw)
        found = await self._choose(digest, _parsed(raw, media_type), 0)
        if found is None:
            there = ", ".join(dict.fromkeys(self._platforms))[:300] or "none that can be run"
            raise SandboxError(
                "platform-unsupported", f"the image is not for {self._platform}; its platforms: {there}"
            )
        return found

    async def image(self, reference: str, on_size: Callable[[int], None]) -> PulledImage:
        found = await self.found(reference)
        layers = _checked_layers(found, self._limits)
        missing = self._missing_bytes(layers, found.config.diff_ids)
        await asyncio.get_running_loop().run_in_executor(self._executor, on_size, missing)
        paths = [await self._stored(layer, f"layer {n}") for n, layer in enumerate(layers, start=1)]
        return PulledImage(found.digest, found.config.platform, found.manifest, found.config, tuple(paths))

    def _missing_bytes(self, layers: Sequence[Descriptor], diff_ids: Sequence[Digest]) -> int:
        cache = self._use.cache
        missing = {
            layer.digest: layer.size
            for layer, chain in zip(layers, chain_ids(diff_ids), strict=True)
            if not self._use.hold(cache.blob(layer.digest)) and not cache.has_snapshot(chain)
        }
        return sum(missing.values())

    async def _choose(self, digest: Digest, manifest: Manifest, depth: int) -> _Found | None:
        """The first image in document order that the platform runs (image-spec, image-index.md)."""
        self._seen.add(digest)
        if not manifest.is_index:
            config = await self._config(manifest)
            self._platforms.append(str(config.platform))
            return _Found(digest, manifest, config) if self._platform.runs(config.platform) else None
        if depth >= _INDEX_DEPTH_MAX:
            raise SandboxError("manifest-invalid", f"indexes are nested more than {_INDEX_DEPTH_MAX} deep")
        for child in manifest.children:
            stated = child.platform
            if child.digest in self._seen or ATTESTATION_ANNOTATION in child.annotations:
                continue
            if stated is not None and (stated.os or stated.architecture):
                if stated.unknown:
                    continue
                if not self._platform.runs(stated):
                    self._platforms.append(str(stated))
                    continue
            if len(self._seen) >= _MANIFESTS_MAX:
                raise SandboxError(
                    "manifest-invalid", f"the index leads to more than {_MANIFESTS_MAX} others"
                )
            found = await self._choose(child.digest, await self._child(child), depth + 1)
            if found is not None:
                return found
        return None

    async def _child(self, descriptor: Descriptor) -> Manifest:
        raw, _ = await self._source.manifest(str(descriptor.digest))
        _verify(raw, descriptor, "the manifest of a platform")
        return _parsed(raw, descriptor.media_type)

    async def _config(self, manifest: Manifest) -> ImageConfig:
        if not manifest.runnable or manifest.config is None:
            raise SandboxError(
                "manifest-invalid", "this is no image that can be run: no image config or layer"
            )
        descriptor = manifest.config
        if descriptor.size > CONFIG_MAX_BYTES:
            raise SandboxError("too-large", f"the image config has {descriptor.size} bytes")
        path = await self._stored(descriptor, "the image config")
        try:
            config = parse_image_config(path.read_bytes())
        except SeatrialError as error:
            raise SandboxError("config-invalid", error.message) from None
        if not config.platform.os or not config.platform.architecture:
            raise SandboxError("config-invalid", "the image config names no operating system or architecture")
        return config

    async def _stored(self, descriptor: Descriptor, what: str) -> Path:
        """The verified blob on disk. A blob is renamed to its digest only when all of it is right."""
        digest = descriptor.digest
        if not digest.supported:
            raise SandboxError("manifest-invalid", f"{what} has the unsupported digest {digest.algorithm}")
        final = self._use.cache.blob(digest)
        if self._use.hold(final):
            if final.stat().st_size == descriptor.size:
                return final
            self._use.release(final)
        final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = final.with_name(f"{final.name}.{secrets.token_hex(8)}{UNFINISHED}")
        loop = asyncio.get_running_loop()
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # tells the sweep that somebody is at it
            state = hashlib.new(digest.algorithm)
            size = 0
            pending: list[bytes] = []
            async for piece in self._source.blob(descriptor):
                size += len(piece)
                if size > descriptor.size:
                    break
                pending.append(piece)
                if sum(map(len, pending)) >= _WRITE_BYTES:
                    await loop.run_in_executor(self._executor, _write, fd, state, pending)
                    pending = []
            await loop.run_in_executor(self._executor, _write, fd, state, pending)
            if size != descriptor.size or state.hexdigest() != digest.encoded:
                raise _mismatch(what, descriptor, size, f"{digest.algorithm}:{state.hexdigest()}")
            await loop.run_in_executor(self._executor, os.fsync, fd)
            part.rename(final)
            self._keep(final, fd)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        finally:
            # In the thread that writes, after its last write: a cancelled one goes on, and by then the number
            # might be another file's.
            self._executor.submit(os.close, fd)
        return final

    def _keep(self, final: Path, fd: int) -> None:
        # A copy of the handle has the same lock, and lets others have it too from here on.
        fcntl.flock(fd, fcntl.LOCK_SH)
        self._use.adopt(final, os.dup(fd))


def _checked_layers(found: _Found, limits: PrepareLimits) -> tuple[Descriptor, ...]:
    layers = found.manifest.layers
    for number, layer in enumerate(layers, start=1):
        if layer.media_type not in mediatypes.LAYER_TARS and not mediatypes.is_foreign_layer(
            layer.media_type
        ):
            raise SandboxError(
                "manifest-invalid", f"layer {number} is {layer.media_type[:100]!r}, which cannot be unpacked"
            )
    if len(layers) != len(found.config.diff_ids):
        raise SandboxError(
            "config-invalid",
            f"the manifest has {len(layers)} layers and the config {len(found.config.diff_ids)} diff IDs",
        )
    if len(layers) > LAYERS_MAX:
        raise SandboxError("manifest-invalid", f"the image has {len(layers)} layers; {LAYERS_MAX} can be run")
    for diff_id in found.config.diff_ids:
        if not diff_id.supported:
            raise SandboxError("config-invalid", f"the diff ID {str(diff_id)[:100]} cannot be verified")
    total = sum(layer.size for layer in layers)
    if total > limits.unpacked_bytes:
        raise SandboxError(
            "too-large",
            f"the layers have {total} bytes even before they are unpacked; the limit is "
            f"{limits.unpacked_bytes}",
        )
    return layers


def _parsed(raw: bytes, media_type: str) -> Manifest:
    # A server that does not know better says octet-stream; then the body's own word is all there is.
    stated = media_type if media_type in mediatypes.MANIFESTS | mediatypes.INDEXES else None
    try:
        return parse_manifest(raw, stated)
    except SeatrialError as error:
        raise SandboxError("manifest-invalid", error.message) from None


def _verify(raw: bytes, descriptor: Descriptor, what: str) -> None:
    if not descriptor.digest.supported:
        raise SandboxError("manifest-invalid", f"{what} has the unsupported digest {descriptor.digest}")
    digest = digest_of(raw, descriptor.digest.algorithm)
    if digest != descriptor.digest or len(raw) != descriptor.size:
        raise _mismatch(what, descriptor, len(raw), str(digest))


def _mismatch(what: str, descriptor: Descriptor, size: int, digest: str) -> SandboxError:
    if size != descriptor.size:
        seen = f"has {'more than ' if size > descriptor.size else ''}{min(size, descriptor.size)} bytes"
        return SandboxError("digest-mismatch", f"{what} {seen}, not {descriptor.size} as its descriptor says")
    return SandboxError("digest-mismatch", f"{what} is {digest}, not {descriptor.digest}")


def _write(fd: int, state: hashlib._Hash, pieces: list[bytes]) -> None:
    for piece in pieces:
        state.update(piece)
        view = memoryview(piece)
        while view:
            view = view[os.write(fd, view) :]
