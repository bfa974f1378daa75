"""Platforms: operating system, architecture, variant (image-spec, image-index.md, "platform")."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PART = re.compile(r"[a-zA-Z0-9._-]{1,64}")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_DEFAULT_VARIANT = {"amd64": "v1", "arm64": "v8", "arm": "v7"}
UNKNOWN = "unknown"
UNKNOWN_PLATFORM = f"{UNKNOWN}/{UNKNOWN}"


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """``os/architecture[/variant]``. ``unknown/unknown`` marks content that is never run (attestations)."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @property
    def unknown(self) -> bool:
        """Whether this names no machine at all."""
        return UNKNOWN in (self.os, self.architecture)

    def runs(self, image: Platform) -> bool:
        """Whether a host of this platform runs an image of that one: same system and architecture, and a
        variant no higher than the host's (amd64, arm64 and arm have default ones)."""
        if (self.os, self.architecture) != (image.os, image.architecture):
            return False
        return _rank(self) >= _rank(image)


def parse_platform(text: str) -> Platform:
    """Parse ``os/architecture[/variant]``.

    Raises:
        ValueError: not two or three plain parts.
    """
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(_PART.fullmatch(part) for part in parts):
        raise ValueError(f"{text[:80]!r} is not a platform (os/architecture or os/architecture/variant)")
    return Platform(*parts)


def platform_of_machine(machine: str) -> Platform:
    """The platform of images that run on a Linux machine, as ``uname -m`` names it."""
    return Platform("linux", _ARCHITECTURES.get(machine, machine))


def _rank(platform: Platform) -> int:
    variant = platform.variant or _DEFAULT_VARIANT.get(platform.architecture, "")
    digits = variant.removeprefix("v")
    return int(digits) if digits.isascii() and digits.isdigit() else 0
