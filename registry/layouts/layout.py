"""One layout, read: what it lists, and its content by digest.

Manifests are verified as they are read; of other content the size is known, and the bytes are the reader's to
verify.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from registry.errors import SeatrialError
from registry.layouts.docker import MANIFEST_PATH, saved
from registry.layouts.errors import LayoutError
from registry.layouts.members import Members, Reader, read_whole
from registry.oci.digest import Digest, digest_of, parse_content_digest
from registry.oci.layout import INDEX_PATH, MARKER_PATH, Entry, blob_path, check_marker, parse_index
from registry.oci.manifest import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

_MARKER_MAX_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Layout:
    """``made`` are manifests that were made here, for content that had none; ``paths`` is where content lies
    that is not at its digest's place."""

    members: Members
    entries: tuple[Entry, ...]
    made: Mapping[Digest, bytes] = field(default_factory=dict)
    paths: Mapping[Digest, str] = field(default_factory=dict)

    def find(self, reference: str) -> Entry:
        """The entry with that name, or tag, or digest; with an empty reference the only one.

        Raises:
            LayoutError: there is no such entry, or more than one.
        """
        found = self.entries
        if reference:
            found = tuple(
                one
                for one in self.entries
                if reference in one.names or reference in (one.tag, str(one.descriptor.digest))
            )
        digests = {one.descriptor.digest for one in found}
        if len(digests) == 1:
            return found[0]
        known = ", ".join(one.names[0] for one in self.entries if one.names)[:300] or "none"
        asked = f"{len(digests)} images and no tag was given"
        if reference:
            asked = f"{'no tag' if not found else 'several images under the name'} {reference[:100]!r}"
        raise LayoutError("missing", f"{self.members.name} has {asked}; its tags: {known}")

    def manifest(self, digest: Digest) -> bytes:
        """The bytes of a manifest or index.

        Raises:
            LayoutError: it is not there, too large, or its bytes have another digest.
        """
        if digest in self.made:
            return self.made[digest]
        raw = read_whole(self.members, self._path(digest), MAX_BYTES)
        # Under a tag nobody else knows which digest was meant.
        if not digest.supported or (found := digest_of(raw, digest.algorithm)) != digest:
            seen = found if digest.supported else "not one that can be verified"
            raise LayoutError("mismatch", f"the manifest is {seen}, not {digest} as index.json says")
        return raw

    def size(self, digest: Digest) -> int | None:
        """How many bytes are there under the digest; ``None``: it is not there."""
        return self.members.size(self._path(digest))

    def open(self, digest: Digest) -> Reader:
        """The bytes that are there under the digest, not verified.

        Raises:
            LayoutError: there are none.
        """
        return self.members.open(self._path(digest))

    def _path(self, digest: Digest) -> str:
        return self.paths.get(digest) or blob_path(digest)


def read_layout(members: Members) -> Layout:
    """The layout that these files are, or what ``docker save`` writes. The caller closes the files.

    Raises:
        LayoutError: they are neither.
    """
    if members.size(INDEX_PATH) is None and members.size(MANIFEST_PATH) is not None:
        entries, made, paths = saved(members)
        return Layout(members, entries, made, paths)
    try:
        index = read_whole(members, INDEX_PATH, MAX_BYTES)
    except LayoutError as error:
        also = f", and no {MANIFEST_PATH}" if error.kind == "missing" else ""
        raise LayoutError(error.kind, error.message + also) from None
    try:
        check_marker(read_whole(members, MARKER_PATH, _MARKER_MAX_BYTES))
        return Layout(members, parse_index(index))
    except LayoutError:
        raise
    except SeatrialError as error:
        raise LayoutError("invalid", f"index.json of {members.name}: {error.message}") from None


def content_digest(text: str) -> Digest:
    """A digest as somebody gave it.

    Raises:
        LayoutError: it is none that names content.
    """
    try:
        return parse_content_digest(text)
    except SeatrialError as error:
        raise LayoutError("missing", error.message) from None
