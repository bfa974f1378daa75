"""What layouts are written to: one Protocol for folders and archives, and the index that all of them get."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Protocol

from registry.layouts.errors import LayoutError
from registry.oci.layout import FULL_NAME, REF_NAME
from registry.oci.mediatypes import OCI_INDEX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from registry.oci.digest import Digest

JsonEntry = dict[str, object]


class Target(Protocol):
    """Where a layout is written. What fails leaves no finished layout behind, and a folder as it was."""

    def entries(self) -> list[JsonEntry]:
        """What its index lists already.

        Raises:
            LayoutError: it is there, and no layout.
        """

    def begin(self, index: bytes, beside: Mapping[str, bytes]) -> None:
        """Take the index, and small files that stand beside it in an archive."""

    def holds(self, digest: Digest, size: int) -> bool:
        """Whether the content is there already."""

    def add(
        self,
        digest: Digest,
        size: int,
        pieces: Callable[[int], Iterator[bytes]],
        advance: Callable[[int], None],
    ) -> None:
        """Take content; ``pieces`` gives its bytes from an offset on.

        Raises:
            LayoutError: they are others than the digest and the size say, or cannot be written.
        """

    def finish(self) -> None:
        """Make it a whole layout."""


def merged(before: Iterable[JsonEntry], new: Iterable[JsonEntry]) -> list[JsonEntry]:
    """An index's entries with new ones: what has the name of a new one, or is the same without a name, goes.

    Raises:
        LayoutError: a name is that of another repository's image, or of two new ones.
    """
    added: list[JsonEntry] = []
    named: dict[str, JsonEntry] = {}
    for one in new:
        name = _name(one)
        if one in added:
            continue
        if name in named:
            raise LayoutError(
                "invalid", f"two images have the name {name}: {named[name]['digest']} and {one['digest']}"
            )
        added.append(one)
        if name:
            named[name] = one
    kept: list[JsonEntry] = []
    for one in before:
        name = _name(one)
        if name not in named:
            if one not in added:
                kept.append(one)
            continue
        ours, theirs = _repository(named[name]), _repository(one)
        if theirs and ours and theirs != ours:
            raise LayoutError(
                "invalid", f"{name} is the name of an image of {theirs} there; export {ours} to another place"
            )
    return sorted(kept + added, key=lambda one: (_name(one) == "", _name(one), str(one.get("digest"))))


def index_of(entries: Iterable[JsonEntry]) -> bytes:
    """The bytes of an ``index.json``; of the same entries the same."""
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def verified(
    digest: Digest, size: int, pieces: Iterator[bytes], state: hashlib._Hash, done: int = 0
) -> Iterator[bytes]:
    """The pieces, which are verified when the last of them is taken; ``state`` has the ``done`` bytes before.

    Raises:
        LayoutError: they are others.
    """
    for piece in pieces:
        done += len(piece)
        if done > size:
            break
        state.update(piece)
        yield piece
    if done != size or state.hexdigest() != digest.encoded:
        raise LayoutError("mismatch", f"what came as {digest} has other bytes, or not {size} of them")


def _name(entry: JsonEntry) -> str:
    return _annotation(entry, REF_NAME)


def _repository(entry: JsonEntry) -> str:
    # One registry may be reached under several names.
    return _annotation(entry, FULL_NAME).rpartition(":")[0].partition("/")[2]


def _annotation(entry: JsonEntry, key: str) -> str:
    annotations = entry.get("annotations")
    return str(annotations.get(key) or "") if isinstance(annotations, dict) else ""
