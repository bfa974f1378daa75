"""What is pushed in a play of the model: blobs, and the manifests that are made of them.

Contents differ by ``seed``, so that many plays share one registry and see nothing of each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from tests.kit.distribution import small_index, small_manifest
from tests.kit.images import OCI_INDEX, OCI_MANIFEST, descriptor

REPOS = ("one", "two")
TAGS = ("a", "b", "c")
SLOTS = (0, 1)
CONFIG, EMPTY = 0, 1
BLOBS = range(5)
SIZES = (0, 0, 600, 70_000, 300_001)
UPLOADED = 4
"""The blob that the operations on upload sessions carry, in these parts."""
PARTS = ((0, 100_000), (100_000, SIZES[UPLOADED]))


@dataclass(frozen=True, slots=True)
class Item:
    """A manifest of the play, and what it needs."""

    raw: bytes
    media_type: str = OCI_MANIFEST
    blobs: tuple[int, ...] = ()
    lists: tuple[str, ...] = ()
    subject: str | None = None
    artifact_type: str | None = None
    algorithm: str = "sha256"

    @property
    def digest(self) -> str:
        """What it is pushed and asked for by."""
        return f"{self.algorithm}:{hashlib.new(self.algorithm, self.raw).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Contents:
    """The blobs and manifests of one play. Its repositories are named after ``prefix``, so that several may
    play with the same contents."""

    prefix: str
    seed: str
    blobs: tuple[bytes, ...]
    items: Mapping[str, Item]

    def name(self, repo: int) -> str:
        """The full name of a repository."""
        return f"{self.prefix}-{REPOS[repo]}"


@cache
def contents_of(seed: str, prefix: str | None = None) -> Contents:
    """All that is pushed under this seed; repositories are named after it too if there is no ``prefix``."""
    config = (
        f'{{"architecture":"amd64","os":"linux","author":"{seed}",'
        '"config":{},"rootfs":{"type":"layers","diff_ids":[]}}'
    ).encode()
    blobs = [_filled(f"{seed}/{i};", size) if i else config for i, size in enumerate(SIZES)]
    about = "application/vnd.example.about"
    items: dict[str, Item] = {}

    def image(key: str, layers: list[int], **members: object) -> bytes:
        annotations = {"key": f"{seed} {key}"}
        return small_manifest([blobs[i] for i in layers], config, annotations=annotations, **members)

    items["image-0"] = Item(image("image-0", [2]), blobs=(CONFIG, 2))
    items["image-1"] = Item(image("image-1", [1, 3]), blobs=(CONFIG, 1, 3))
    items["image-512"] = Item(image("image-512", [4]), blobs=(CONFIG, 4), algorithm="sha512")
    raw = small_index(items["image-0"].raw, items["image-1"].raw, annotations={"key": f"{seed} index"})
    items["index"] = Item(raw, OCI_INDEX, lists=("image-0", "image-1"))
    for key, subject, layers in (("signature", "image-0", [3]), ("bill", "image-0", [2])):
        target = items[subject]
        raw = image(key, layers, subject=descriptor(target.raw, target.media_type), artifactType=about)
        items[key] = Item(raw, blobs=(CONFIG, *layers), subject=subject, artifact_type=about)
    target = items["index"]
    raw = small_index(
        subject=descriptor(target.raw, target.media_type), annotations={"key": f"{seed} listing"}
    )
    items["listing"] = Item(raw, OCI_INDEX, subject="index")
    target = items["signature"]
    raw = image("about", [2], subject=descriptor(target.raw, target.media_type), artifactType=about)
    items["about"] = Item(raw, blobs=(CONFIG, 2), subject="signature", artifact_type=about)
    listed = descriptor(items["index"].raw, OCI_INDEX)
    raw = small_index(annotations={"key": f"{seed} nested"}, manifests=[listed])
    items["nested"] = Item(raw, OCI_INDEX, lists=("index",))
    return Contents(prefix or seed, seed, tuple(blobs), items)


def _filled(pattern: str, size: int) -> bytes:
    return (pattern.encode() * (size // len(pattern) + 1))[:size]


KEYS = tuple(contents_of("keys").items)
SUBJECTS = ("image-0", "image-1", "index", "signature")
"""Whom lists of referrers are asked about; ``image-1`` has none."""
