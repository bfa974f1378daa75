"""Which platforms are run here."""

from __future__ import annotations

from collections.abc import Iterable

from registry.oci.platform import parse_platform


def is_run(image: str, platforms: Iterable[str]) -> bool:
    """Whether one of ``platforms`` (as hosts) runs an image for the platform ``image``."""
    try:
        wanted = parse_platform(image)
    except ValueError:
        return False
    return not wanted.unknown and any(parse_platform(one).runs(wanted) for one in platforms)


def is_scanned(image: str) -> bool:
    """Whether an image for this platform can be scanned: any worker that scans does, whatever it runs."""
    try:
        return not parse_platform(image).unknown
    except ValueError:
        return False
