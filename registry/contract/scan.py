"""What a scan found in one image: its packages, what is wrong in it, and what could not be looked at.

Facts only. Which vulnerabilities the packages have depends on advisories, which change: they are matched
afterwards (:mod:`registry.advisories`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from registry.contract.base import LEASE, Wire, is_empty, is_false, is_none

MAX_SCAN_BYTES = 32 * 1024 * 1024
"""A larger document is refused; what does not fit is named as incomplete."""
MAX_PACKAGES = 50_000
MAX_FOUND = 10_000
MAX_INCOMPLETE = 1_000
MAX_REPORTED = 10_000
MAX_OTHERS = 8
SCANNER_NAME = r"^[a-z0-9](?:[a-z0-9_.-]{0,30}[a-z0-9])?$"
"""What the name of another scanner looks like."""
VULNERABILITY_ID = r"^[A-Za-z0-9][A-Za-z0-9.:_-]{0,99}$"

PackageKind = Literal["dpkg", "apk", "rpm", "python", "npm", "go", "rust", "java", "other"]
"""``other``: of a kind that only another scanner knows."""
FoundKind = Literal["secret", "malware", "misconfiguration", "licence"]
Severity = Literal["unknown", "info", "low", "medium", "high", "critical"]
"""In their order. ``unknown`` stands apart: it is never taken for harmless."""
WORST_FIRST: tuple[Severity, ...] = ("critical", "high", "unknown", "medium", "low", "info")
"""How findings are sorted."""
SCANS = "scan"
"""What a worker says among its mechanisms that scans images: only such a one is asked to."""
OTHER_SCANNERS = "other scanners"
"""What a worker says among its mechanisms that can have other scanners look at an image."""


class System(Wire):
    """The operating system of an image, by its os-release."""

    id: str = Field(max_length=64, description="as in 'debian'")
    version: str = Field(default="", max_length=64, description="VERSION_ID, as in '12'")
    name: str = Field(default="", max_length=200, description="PRETTY_NAME")


class ScannedLayer(Wire):
    """One layer, base first; the others name it by its index, from 0 on."""

    diff_id: str = Field(pattern=r"^sha(256:[0-9a-f]{64}|512:[0-9a-f]{128})$")
    created_by: str = Field(default="", max_length=2000, description="its line of the history, if it has one")


class Package(Wire):
    """One installed package, as its own metadata names it.

    Advisories are looked up by ``ecosystem`` and by ``source`` if it is there, else by ``name``; of rpm by
    both.
    """

    kind: PackageKind
    ecosystem: str = Field(
        max_length=64, description="as OSV names it, as in 'Debian:12' or 'PyPI'; empty where it has no name"
    )
    name: str = Field(max_length=300, description="never folded: as its metadata has it")
    version: str = Field(max_length=300, description="as its metadata has it, with epoch and revision")
    architecture: str = Field(default="", max_length=64)
    source: str | None = Field(
        default=None,
        max_length=300,
        exclude_if=is_none,
        description="of a distribution's package: its source",
    )
    source_version: str | None = Field(
        default=None, max_length=300, exclude_if=is_none, description="where it is not that of the package"
    )
    licences: tuple[str, ...] = Field(default=(), max_length=50, exclude_if=is_empty)
    path: str = Field(max_length=4096, description="of the file that says so, from the root, without '/'")
    layer: int = Field(ge=0, description="which layer brought it")
    owned_by: str | None = Field(
        default=None,
        max_length=300,
        exclude_if=is_none,
        description="the distribution's package that the file belongs to; matched only through that one",
    )
    scanner: str | None = Field(
        default=None,
        pattern=SCANNER_NAME,
        exclude_if=is_none,
        description="which other scanner says so; null: ours",
    )


class Found(Wire):
    """One thing that is wrong, of a kind that does not depend on advisories. Secrets are redacted."""

    kind: FoundKind
    rule: str = Field(max_length=100)
    severity: Severity
    real_severity: Severity | None = Field(
        default=None,
        exclude_if=is_none,
        description="what it is if nobody believes the image that the file is as a distribution packed it; "
        "left out where that is its severity",
    )
    title: str = Field(max_length=300)
    remedy: str = Field(default="", max_length=1000)
    where: str = Field(
        max_length=4096, description="a path without '/', or as in 'env NAME', 'history 3', 'label NAME'"
    )
    line: int | None = Field(default=None, ge=1, exclude_if=is_none)
    evidence: str = Field(default="", max_length=300, description="redacted")
    layer: int | None = Field(default=None, ge=0, exclude_if=is_none, description="null: of the whole image")
    deleted_in_layer: int | None = Field(
        default=None, ge=0, exclude_if=is_none, description="no longer seen in the image, but in its layers"
    )
    scanner: str | None = Field(
        default=None,
        pattern=SCANNER_NAME,
        exclude_if=is_none,
        description="which other scanner says so; null: ours",
    )


class Reported(Wire):
    """A vulnerability that another scanner reports, by advisories of its own. It stays as it was told: when
    our advisories change it is not looked up again."""

    scanner: str = Field(default="", pattern=f"{SCANNER_NAME}|^$", description="filled in by the worker")
    id: str = Field(pattern=VULNERABILITY_ID, description="its CVE, if it has one")
    aliases: tuple[Annotated[str, Field(max_length=100)], ...] = Field(
        default=(), max_length=20, exclude_if=is_empty
    )
    package: int = Field(ge=0, description="which one of the packages, from 0 on")
    severity: Severity = "unknown"
    score: float | None = Field(default=None, ge=0, le=10, exclude_if=is_none, description="of CVSS")
    summary: str = Field(default="", max_length=300)
    fixed_version: str | None = Field(default=None, max_length=300, exclude_if=is_none)


class OtherScanner(Wire):
    """An image that looked at the image under test as well, and how that ended."""

    name: str = Field(pattern=SCANNER_NAME)
    image: str = Field(max_length=600, description="NAME@DIGEST")
    said: str = Field(default="", max_length=200, description="what it says of itself: name and version")
    state: Literal["complete", "incomplete", "failed"]


class Incomplete(Wire):
    """What could not be looked at, or not to its end."""

    scanner: str = Field(max_length=64, description="which module")
    where: str = Field(default="", max_length=4096)
    reason: str = Field(max_length=300)
    layer: int | None = Field(default=None, ge=0, exclude_if=is_none)


class Scan(Wire):
    """``POST /worker/v1/scan``: what one scan of one image (one platform) found."""

    lease: str = Field(
        pattern=f"{LEASE}|^$", description="empty where an image is scanned without a registry"
    )
    scanner: str = Field(max_length=200, description="name and version, as in 'seatrial 1.2 (dpkg 1, …)'")
    digest: str
    platform: str
    system: System | None = Field(default=None, exclude_if=is_none)
    layers: tuple[ScannedLayer, ...] = Field(max_length=1000)
    packages: tuple[Package, ...] = Field(default=(), max_length=MAX_PACKAGES)
    found: tuple[Found, ...] = Field(default=(), max_length=MAX_FOUND)
    incomplete: tuple[Incomplete, ...] = Field(default=(), max_length=MAX_INCOMPLETE)
    truncated: bool = Field(
        default=False, exclude_if=is_false, description="there was more than the document may hold"
    )
    reported: tuple[Reported, ...] = Field(default=(), max_length=MAX_REPORTED, exclude_if=is_empty)
    others: tuple[OtherScanner, ...] = Field(default=(), max_length=MAX_OTHERS, exclude_if=is_empty)

    @model_validator(mode="after")
    def _packages_are_there(self) -> Scan:
        last = max((one.package for one in self.reported), default=-1)
        if last >= len(self.packages):
            raise ValueError(f"it names package {last}, and has {len(self.packages)}, counted from 0")
        return self

    @model_validator(mode="after")
    def _layers_are_there(self) -> Scan:
        named = [package.layer for package in self.packages]
        named += [
            layer for one in self.found for layer in (one.layer, one.deleted_in_layer) if layer is not None
        ]
        named += [one.layer for one in self.incomplete if one.layer is not None]
        last = max(named, default=-1)
        if last >= len(self.layers):
            raise ValueError(f"it names layer {last}, and has {len(self.layers)}, counted from 0")
        return self

    def is_complete(self) -> bool:
        """Whether all of the image was looked at, and all that was found is here."""
        return not self.incomplete and not self.truncated
