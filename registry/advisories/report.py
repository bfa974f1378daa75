"""What is known of one image at one moment: what its scan found, and what advisories say of that.

All that is written of an image, and all that is decided by its findings, is a function of a :class:`Report`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Literal

from registry.advisories.file import Advisories, Status
from registry.advisories.matching import Match, match, not_looked_up
from registry.advisories.reported import with_reported, without_reported
from registry.contract.scan import Scan

By = Literal["vex", "waiver"]


@dataclass(frozen=True, slots=True)
class Excused:
    """A match that need not be mended, and who says so: it is shown all the same.

    ``id`` and ``package_index`` are the match's. ``status`` and ``justification`` are words of OpenVEX
    (``not_affected``, ``component_not_present``); of a waiver which one it is, and why. ``author`` said it;
    ``expires_at`` is ``None`` where it holds for good. One that has expired is in no report.
    """

    id: str
    package_index: int
    by: By
    status: str
    justification: str
    author: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class BaseImage:
    """The image that another was built on: the lowest ``layers`` layers of that one are all of its own."""

    repository: str
    digest: str
    layers: int

    def brought(self, layer: int | None) -> bool | None:
        """Whether what lies in a layer came with this image; ``None``: it lies in none."""
        return None if layer is None else layer < self.layers


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of one image (one platform) since ``scanned_at``.

    ``matches`` are in the order of their packages. ``advisories`` is the file that they are from; ``None``:
    there was none, and nobody has looked. ``not_looked_up`` counts packages that the file says nothing about,
    by ecosystem. A report without advisories or with such packages knows of no vulnerability there, which is
    not to say that there is none.
    """

    scan: Scan
    scanned_at: datetime
    matches: tuple[Match, ...] = ()
    advisories: Status | None = None
    not_looked_up: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    excused: tuple[Excused, ...] = ()
    notes: tuple[str, ...] = ()
    """what was to count for it and does not, as a statement that makes no sense"""
    first_seen_at: Mapping[tuple[str, int], datetime] = field(default_factory=lambda: MappingProxyType({}))
    """Since when a registry knows of a match, by its ``id`` and ``package_index``; empty without one."""
    base: BaseImage | None = None
    """``None``: none is known, as always without a registry; then nothing is told apart."""

    @property
    def advisories_as_of(self) -> datetime | None:
        """When the oldest source of the advisories was as it is there."""
        oldest = None if self.advisories is None else self.advisories.oldest
        return None if oldest is None else oldest.as_of

    def is_complete(self) -> bool:
        """Whether all of the image was looked at, and all of its packages were looked up."""
        return self.scan.is_complete() and self.advisories is not None and not self.not_looked_up

    def excuses(self) -> Mapping[tuple[str, int], Excused]:
        """Those of ``excused``, by the ``id`` and ``package_index`` of their match; of several the first."""
        return {(one.id, one.package_index): one for one in reversed(self.excused)}


def report(scan: Scan, advisories: Advisories | None, *, scanned_at: datetime) -> Report:
    """Look an image's packages up.

    Raises:
        UnavailableError: the file is damaged.
    """
    if advisories is None:
        return Report(scan, scanned_at, matches=with_reported(scan, ()))
    unknown = without_reported(scan, not_looked_up(advisories, scan.packages))
    return Report(
        scan,
        scanned_at,
        matches=with_reported(scan, match(advisories, scan.packages)),
        advisories=advisories.status(),
        not_looked_up=MappingProxyType(unknown),
    )
