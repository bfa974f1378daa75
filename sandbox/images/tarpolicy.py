"""The policy for tar members: what of a layer is taken, and what is refused (image-spec, layer.md).

Pure. Every name, number and attribute is checked here before anything touches a file system. Names are
bytes, split into parts that are never empty, ``.`` or ``..``.
"""

from __future__ import annotations

import math
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

NAME_MAX = 255
PATH_MAX = 4096
DEPTH_MAX = 256
ID_MAX = 65535
XATTR_MAX_BYTES = 64 * 1024
MARKER = b".wh."
OPAQUE = b".wh..wh..opq"
METADATA = b".wh..wh."
_MTIME_MIN, _MTIME_MAX = -(2**31), 2**34 - 1
_XATTR_PREFIXES = ("SCHILY.xattr.", "LIBARCHIVE.xattr.")

Parts = tuple[bytes, ...]
Kind = Literal["file", "folder", "symlink", "hardlink", "special", "whiteout", "opaque", "metadata"]
_KINDS: Mapping[bytes, Kind] = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.GNUTYPE_SPARSE: "file",
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
    tarfile.CHRTYPE: "special",
    tarfile.BLKTYPE: "special",
    tarfile.FIFOTYPE: "special",
}


class LayerError(Exception):
    """The layer is refused; ``reason`` is one of the report's reasons, ``message`` is for its author."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Entry:
    """One checked member. For a whiteout ``parts`` name what is removed, for an opaque marker the folder."""

    kind: Kind
    parts: Parts
    target: bytes
    size: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    xattrs: tuple[tuple[bytes, bytes], ...]
    skipped_xattrs: int
    sparse: tuple[tuple[int, int], ...] | None


def read_entry(info: tarfile.TarInfo) -> Entry:
    """Check one header.

    Raises:
        LayerError: with what is wrong about it.
    """
    name = _bytes(info.name)
    parts = split_path(name, "name")
    kind = _KINDS.get(info.type)
    if kind is None:
        raise LayerError("layer-invalid", f"has the unknown type {info.type!r}")
    kind, parts = _marker(kind, parts)
    if not parts and kind not in ("folder", "opaque"):
        raise LayerError("layer-invalid", "has no name")
    if not 0 <= info.uid <= ID_MAX or not 0 <= info.gid <= ID_MAX:
        raise LayerError(
            "layer-invalid", f"belongs to {info.uid}:{info.gid}; owners are numbers from 0 to {ID_MAX}"
        )
    if info.size < 0:
        raise LayerError("layer-invalid", f"has a size of {info.size} bytes")
    xattrs, skipped = _xattrs(info.pax_headers)
    return Entry(
        kind=kind,
        parts=parts,
        target=_target(kind, info),
        size=info.size if kind == "file" else 0,
        mode=info.mode & 0o7777,
        uid=info.uid,
        gid=info.gid,
        mtime_ns=_mtime(info.mtime),
        xattrs=xattrs,
        skipped_xattrs=skipped,
        sparse=_sparse(info),
    )


def split_path(path: bytes, what: str) -> Parts:
    """The parts of a path in the image; ``/a``, ``./a`` and ``a/`` all mean ``a``.

    Raises:
        LayerError: a ``..``, a NUL, or longer or deeper than any file system takes.
    """
    if len(path) > PATH_MAX:
        raise LayerError("layer-invalid", f"has a {what} of {len(path)} bytes; {PATH_MAX} are the limit")
    if b"\0" in path:
        raise LayerError("layer-invalid", f"has a NUL in its {what}")
    parts = tuple(part for part in path.split(b"/") if part not in (b"", b"."))
    if b".." in parts:
        raise LayerError("layer-invalid", f"has a '..' in its {what}, which could leave the image")
    if len(parts) > DEPTH_MAX:
        raise LayerError("layer-invalid", f"lies {len(parts)} folders deep; {DEPTH_MAX} are the limit")
    if any(len(part) > NAME_MAX for part in parts):
        raise LayerError("layer-invalid", f"has a part of more than {NAME_MAX} bytes in its {what}")
    return parts


def shown(name: bytes | str) -> str:
    """A member's name for a message: printable, short."""
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
    text = text.encode("utf-8", "replace").decode("utf-8")
    return repr(text if len(text) <= 120 else text[:117] + "...")


def _marker(kind: Kind, parts: Parts) -> tuple[Kind, Parts]:
    if not any(part.startswith(MARKER) for part in parts):
        return kind, parts
    *parents, last = parts
    if last == OPAQUE and not any(part.startswith(MARKER) for part in parents):
        return "opaque", tuple(parents)
    if any(part.startswith(METADATA) for part in parts):
        return "metadata", parts
    if any(part.startswith(MARKER) for part in parents):
        raise LayerError("layer-invalid", "lies below a whiteout marker")
    hidden = last.removeprefix(MARKER)
    if hidden in (b"", b".", b".."):
        # Taken by its letters this would remove the folder itself or its parent.
        raise LayerError("layer-invalid", "is a whiteout that names no file in its folder")
    return "whiteout", (*parents, hidden)


def _target(kind: Kind, info: tarfile.TarInfo) -> bytes:
    if kind not in ("symlink", "hardlink"):
        return b""
    target = _bytes(info.linkname)
    if not target or b"\0" in target or len(target) >= PATH_MAX:
        raise LayerError("layer-invalid", "is a link whose target is empty, too long or has a NUL")
    return target


def _mtime(value: float) -> int:
    if not math.isfinite(value):
        raise LayerError("layer-invalid", f"has the time {value}, which is none")
    return int(min(max(value, _MTIME_MIN), _MTIME_MAX) * 1_000_000_000)


def _xattrs(pax: Mapping[str, str]) -> tuple[tuple[tuple[bytes, bytes], ...], int]:
    if not pax:
        return (), 0
    kept: list[tuple[bytes, bytes]] = []
    skipped = 0
    for keyword, value in pax.items():
        for prefix in _XATTR_PREFIXES:
            if keyword.startswith(prefix):
                name = keyword.removeprefix(prefix)
                # user.* alone: security.* would give rights, trusted.* and user.overlay.* speak to overlay.
                if name.startswith("user.") and not name.startswith("user.overlay.") and "\0" not in name:
                    kept.append((_bytes(name), _bytes(value)))
                else:
                    skipped += 1
    if sum(len(name) + len(value) for name, value in kept) > XATTR_MAX_BYTES:
        raise LayerError("layer-invalid", f"has more than {XATTR_MAX_BYTES} bytes of extended attributes")
    return tuple(kept), skipped


def _sparse(info: tarfile.TarInfo) -> tuple[tuple[int, int], ...] | None:
    pieces: list[tuple[int, int]] | None = getattr(info, "sparse", None)
    if pieces is None:
        return None
    end = 0
    for offset, length in pieces:
        if length == 0:
            continue
        if offset < end or length < 0 or offset + length > info.size:
            raise LayerError("layer-invalid", "has a sparse map that overlaps or leaves the file")
        end = offset + length
    return tuple((offset, length) for offset, length in pieces if length)


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise LayerError("layer-invalid", "has a name that is not text") from None
