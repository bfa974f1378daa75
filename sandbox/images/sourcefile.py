"""Images from files: an OCI layout folder, or a tar of an OCI layout or of what ``docker save`` writes.

The outer tar is only indexed; layers stay closed until the confined child unpacks them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import posixpath
import stat
import tarfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

from registry.errors import SeatrialError
from registry.oci import mediatypes
from registry.oci.descriptor import Descriptor
from registry.oci.digest import Digest, digest_of, parse_content_digest
from registry.oci.imageconfig import MAX_BYTES as CONFIG_MAX_BYTES
from registry.oci.manifest import MAX_BYTES as MANIFEST_MAX_BYTES
from registry.oci.manifest import parse_manifest
from registry.oci.strictjson import JsonInvalidError, parse_json
from sandbox.errors import SandboxError
from sandbox.images.layerstream import HEADER_MAX_BYTES, has_digit_run

PIECE_BYTES = 1024 * 1024
_MEMBERS_MAX = 100_000
_REF_NAME = "org.opencontainers.image.ref.name"


class LayoutSource:
    """An OCI layout folder (image-spec, image-layout.md)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def manifest(self, reference: str) -> tuple[bytes, str]:
        """By tag, by digest, or, with an empty reference, the only one."""
        if ":" in reference:
            digest, media_type = _content_digest(reference), ""
        else:
            index = self._read("index.json", MANIFEST_MAX_BYTES)
            digest, media_type = tagged(index, reference, f"the layout {self._folder.name}")
        return _verified(self._read(_blob_path(digest), MANIFEST_MAX_BYTES), digest), media_type

    async def blob(self, descriptor: Descriptor) -> AsyncIterator[bytes]:
        """The bytes of a blob file."""
        with self._open(_blob_path(descriptor.digest)) as file, ThreadPoolExecutor(1, "layout") as executor:
            loop = asyncio.get_running_loop()
            while piece := await loop.run_in_executor(executor, file.read, PIECE_BYTES):
                yield piece

    def _read(self, name: str, max_bytes: int) -> bytes:
        with self._open(name) as file:
            return _capped(file.read(max_bytes + 1), max_bytes, name)

    def _open(self, name: str) -> IO[bytes]:
        try:
            fd = os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise SandboxError(
                "pull-failed", f"the layout {self._folder.name} has no readable {name}: {error.strerror}"
            ) from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise SandboxError("pull-failed", f"{name} in the layout {self._folder.name} is no file")
        return os.fdopen(fd, "rb")


class ArchiveSource:
    """A plain tar of either layout, open while the context lasts."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._file = path.open("rb")
        try:
            self._members = _index(self._file, self._name)
            self._docker = None if "index.json" in self._members else self._docker_manifest()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    async def manifest(self, reference: str) -> tuple[bytes, str]:
        """By tag, by digest, or, with an empty reference, the only one. ``docker save`` has none of its own,
        so one is made from what it lists."""
        if self._docker is not None:
            return self._docker[0], mediatypes.OCI_MANIFEST
        if ":" in reference:
            digest, media_type = _content_digest(reference), ""
        else:
            index = self._read("index.json", MANIFEST_MAX_BYTES)
            digest, media_type = tagged(index, reference, self._name)
        return _verified(self._read(_blob_path(digest), MANIFEST_MAX_BYTES), digest), media_type

    async def blob(self, descriptor: Descriptor) -> AsyncIterator[bytes]:
        """The bytes of a member."""
        name = _blob_path(descriptor.digest)
        if self._docker is not None:
            name = self._docker[1].get(descriptor.digest, name)
        offset, left = self._member(name)
        with ThreadPoolExecutor(1, "archive") as executor:
            loop = asyncio.get_running_loop()
            while left > 0:
                size = min(left, PIECE_BYTES)
                piece = await loop.run_in_executor(executor, os.pread, self._file.fileno(), size, offset)
                if not piece:
                    raise SandboxError("pull-failed", f"{self._name} is cut off inside {name[:100]}")
                yield piece
                offset += len(piece)
                left -= len(piece)

    def _docker_manifest(self) -> tuple[bytes, dict[Digest, str]]:
        if "manifest.json" not in self._members:
            raise SandboxError(
                "pull-failed", f"{self._name} is a tar with neither an index.json nor a manifest.json"
            )
        try:
            listed = parse_json(self._read("manifest.json", MANIFEST_MAX_BYTES))
        except JsonInvalidError as error:
            raise SandboxError("manifest-invalid", f"manifest.json of {self._name}: {error}") from None
        if not isinstance(listed, list) or len(listed) != 1 or not isinstance(listed[0], dict):
            raise SandboxError(
                "pull-failed", f"{self._name} does not have exactly one image; save one image at a time"
            )
        config_name, layer_names = listed[0].get("Config"), listed[0].get("Layers")
        if not isinstance(config_name, str) or not isinstance(layer_names, list):
            raise SandboxError("manifest-invalid", f"manifest.json of {self._name} has no Config or Layers")
        names: dict[Digest, str] = {}
        config = self._read(config_name, CONFIG_MAX_BYTES)
        config_digest = digest_of(config)
        names[config_digest] = config_name
        layers = []
        hashed: dict[tuple[int, int], Digest] = {}
        for name in layer_names:
            member = self._member(str(name))
            # Once, however often it is listed.
            digest = hashed[member] = hashed.get(member) or self._hashed(*member)
            size = member[1]
            names[digest] = str(name)
            layers.append({"mediaType": mediatypes.OCI_LAYER, "digest": str(digest), "size": size})
        manifest = {
            "schemaVersion": 2,
            "mediaType": mediatypes.OCI_MANIFEST,
            "config": {
                "mediaType": mediatypes.OCI_CONFIG,
                "digest": str(config_digest),
                "size": len(config),
            },
            "layers": layers,
        }
        return json.dumps(manifest).encode(), names

    def _hashed(self, offset: int, size: int) -> Digest:
        state = hashlib.sha256()
        done = 0
        while done < size and (
            piece := os.pread(self._file.fileno(), min(PIECE_BYTES, size - done), offset + done)
        ):
            state.update(piece)
            done += len(piece)
        return Digest("sha256", state.hexdigest())

    def _read(self, name: str, max_bytes: int) -> bytes:
        offset, size = self._member(name)
        return _capped(os.pread(self._file.fileno(), min(size, max_bytes + 1), offset), max_bytes, name)

    def _member(self, name: str) -> tuple[int, int]:
        found = self._members.get(posixpath.normpath(name))
        if found is None:
            raise SandboxError("pull-failed", f"{self._name} has no {name[:100]}")
        return found


def tagged(index: bytes, tag: str, where: str) -> tuple[Digest, str]:
    """Digest and media type of what an ``index.json`` has under ``tag``; empty: the only entry.

    Raises:
        SandboxError: no such tag, or more than one entry and no tag.
    """
    try:
        children = parse_manifest(index).children
    except SeatrialError as error:
        raise SandboxError("manifest-invalid", f"index.json of {where}: {error.message}") from None
    names = [child.annotations.get(_REF_NAME, "") for child in children]
    found = [child for child, name in zip(children, names, strict=True) if name == tag or not tag]
    if len(found) != 1:
        known = ", ".join(name for name in names if name)[:300] or "none"
        asked = f"no tag {tag[:100]!r}" if tag else f"{len(found)} images and no tag was given"
        raise SandboxError("pull-failed", f"{where} has {asked}; its tags: {known}")
    return found[0].digest, found[0].media_type


class _Headers:
    """As much of a file as ``tarfile`` needs for the headers of members, and no more at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._bytes = 0

    def read(self, size: int) -> bytes:
        """The next bytes; ``tarfile`` seeks to the headers of each member, so that the count is for one."""
        self._bytes += size
        if size < 0 or self._bytes > HEADER_MAX_BYTES:
            raise ValueError("extended headers without end")
        data = self._file.read(size)
        if has_digit_run(data):
            raise ValueError("too many digits in a header")
        return data

    def seek(self, offset: int) -> int:
        """Go to an offset from the start."""
        self._bytes = 0
        return self._file.seek(offset)

    def tell(self) -> int:
        """Where the next byte comes from."""
        return self._file.tell()


def _index(file: IO[bytes], name: str) -> dict[str, tuple[int, int]]:
    members: dict[str, tuple[int, int]] = {}
    links: dict[str, str] = {}
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", _Headers(file)), mode="r:") as archive:
            for count, member in enumerate(archive):
                if count >= _MEMBERS_MAX:
                    raise SandboxError("pull-failed", f"{name} has more than {_MEMBERS_MAX} members")
                path = posixpath.normpath(member.name)
                if member.isreg() and not member.issparse() and member.size >= 0:
                    members[path] = (member.offset_data, member.size)
                elif member.issym():
                    # Old versions of docker save a layer once and link to it.
                    links[path] = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.linkname))
    except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError):
        raise SandboxError(
            "pull-failed", f"{name} is not a plain tar of an OCI layout or of docker save"
        ) from None
    for path, target in links.items():
        if target in members:
            members.setdefault(path, members[target])
    return members


def _blob_path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.encoded}"


def _verified(manifest: bytes, digest: Digest) -> bytes:
    # Under a tag nobody else knows which digest was meant.
    if not digest.supported or (found := digest_of(manifest, digest.algorithm)) != digest:
        seen = found if digest.supported else "not one that can be verified"
        raise SandboxError("digest-mismatch", f"the manifest is {seen}, not {digest} as index.json says")
    return manifest


def _content_digest(text: str) -> Digest:
    try:
        return parse_content_digest(text)
    except SeatrialError as error:
        raise SandboxError("pull-failed", error.message) from None


def _capped(content: bytes, max_bytes: int, name: str) -> bytes:
    if len(content) > max_bytes:
        raise SandboxError("manifest-invalid", f"{name[:100]} has more than {max_bytes} bytes")
    return content
