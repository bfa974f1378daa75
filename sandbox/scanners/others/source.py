"""Where the image of another scanner comes from."""

from __future__ import annotations

from dataclasses import dataclass, field

from sandbox.images.source import ImageSource


@dataclass(frozen=True, slots=True)
class ScannerSource:
    """Where the image of one scanner comes from; ``reference`` is a tag or a digest. What it finds is told
    under ``name``; ``image`` is its own, without the digest."""

    name: str
    image: str
    reference: str
    source: ImageSource = field(repr=False)
