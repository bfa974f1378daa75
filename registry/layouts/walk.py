"""What images are made of, found manifest by manifest: the same for a layout and for a registry. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from registry.errors import SeatrialError
from registry.layouts.errors import LayoutError
from registry.oci.manifest import Manifest, parse_manifest
from registry.oci.mediatypes import INDEXES, MANIFESTS, is_foreign_layer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from registry.oci.descriptor import Descriptor
    from registry.oci.digest import Digest

MANIFESTS_MAX = 10_000
MANIFEST_BYTES_MAX = 256 * 1024 * 1024
DEPTH_MAX = 8


@dataclass(frozen=True, slots=True)
class Found:
    """A manifest as it was received, and as it is understood."""

    raw: bytes
    manifest: Manifest


@dataclass(slots=True)
class Content:
    """``manifests`` are in the order in which a registry takes them: what an index lists before the index.
    ``blobs`` is everything else, without layers that may lie elsewhere."""

    manifests: dict[Digest, Found] = field(default_factory=dict)
    blobs: dict[Digest, Descriptor] = field(default_factory=dict)
    absent: list[Digest] = field(default_factory=list)
    manifest_bytes: int = 0


def walk(
    roots: Iterable[Descriptor],
    read: Callable[[Digest], bytes],
    content: Content | None = None,
    *,
    sparse: bool = False,
) -> Content:
    """All that these manifests are made of, added to ``content``. ``read`` gives the verified bytes of a
    manifest. Of a ``sparse`` index it may lack some: those are ``absent``.

    Raises:
        LayoutError: a size that is not the one stated, or said in two ways; indexes within indexes without
            end; more than there may be; or ``read`` raised it.
    """
    content = content or Content()
    for root in roots:
        _walk(root, read, content, (), sparse=sparse)
    return content


def _walk(
    one: Descriptor,
    read: Callable[[Digest], bytes],
    content: Content,
    above: tuple[Digest, ...],
    *,
    sparse: bool,
) -> None:
    if one.digest in above:
        raise LayoutError("invalid", f"the index {one.digest} lists itself")
    if one.digest in content.manifests:
        return
    if len(above) >= DEPTH_MAX:
        raise LayoutError("invalid", f"the index {above[0]} has indexes {DEPTH_MAX} deep")
    try:
        raw = read(one.digest)
    except LayoutError as error:
        if not (sparse and above and error.kind == "missing"):
            raise
        content.absent.append(one.digest)
        return
    if len(raw) != one.size:
        raise LayoutError("mismatch", f"{one.digest} has {len(raw)} bytes, not {one.size} as is stated")
    content.manifest_bytes += len(raw)
    if len(content.manifests) >= MANIFESTS_MAX or content.manifest_bytes > MANIFEST_BYTES_MAX:
        raise LayoutError(
            "invalid", f"more than {MANIFESTS_MAX} manifests, or {MANIFEST_BYTES_MAX} bytes of them, at once"
        )
    try:
        stated = one.media_type if one.media_type in MANIFESTS | INDEXES else None
        manifest = parse_manifest(raw, stated)
    except SeatrialError as error:
        raise LayoutError("invalid", f"{one.digest}: {error.message}") from None
    for kind, edge in manifest.edges():
        if kind == "child" and edge.media_type in MANIFESTS | INDEXES:
            _walk(edge, read, content, (*above, one.digest), sparse=sparse)
        elif not (kind == "layer" and is_foreign_layer(edge.media_type)):
            _add_blob(edge, content, one.digest)
    content.manifests.setdefault(one.digest, Found(raw, manifest))


def _add_blob(blob: Descriptor, content: Content, of: Digest) -> None:
    known = content.blobs.setdefault(blob.digest, blob)
    if known.size != blob.size:
        raise LayoutError(
            "mismatch", f"{of} says that {blob.digest} has {blob.size} bytes, others say {known.size}"
        )
    if not blob.digest.supported:
        raise LayoutError("invalid", f"{of} names {str(blob.digest)[:100]}, which cannot be verified")
