"""Findings policies: which findings of an image's scan its verdict rests on. YAML or JSON, version 1.

What is not known is never a pass: it gives ``error``, or by name ``fail`` or ``warn``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from registry.contract.base import Wire, canonical_json
from registry.oci.digest import Digest, digest_of

Least = Literal["info", "low", "medium", "high", "critical"]
"""A severity and all above it."""
Then = Literal["fail", "warn"]
Otherwise = Literal["error", "fail", "warn"]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+-]{0,99}$")]
LicenceName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9*][A-Za-z0-9.+*-]{0,99}( WITH [A-Za-z0-9*][A-Za-z0-9.+*-]{0,99})?$")
]
"""As SPDX names it; ``*``: any characters."""
RULES_MAX = 20
IDS_MAX = 100


class VulnerabilityRule(Wire):
    """Which vulnerabilities count: those of which all holds that is said here."""

    severity: Least | None = Field(default=None, description="this severity or a worse one")
    score: float | None = Field(default=None, ge=0, le=10, description="this CVSS score or a higher one")
    fixable: bool | None = Field(
        default=None, description="true: only what a version mends; false: only what none does yet"
    )
    kev: Literal[True] | None = Field(default=None, description="listed as known to be exploited (KEV)")
    epss: float | None = Field(
        default=None, ge=0, le=1, description="this likelihood of being exploited (EPSS) or a higher one"
    )
    grace_days: int = Field(
        default=0, ge=0, le=3650, description="only once the registry has known of it for so many days"
    )
    then: Then = "fail"

    @model_validator(mode="after")
    def _says_something(self) -> VulnerabilityRule:
        if (self.severity, self.score, self.fixable, self.kev, self.epss) == (None,) * 5:
            raise ValueError("a rule says which vulnerabilities: by severity, score, fixable, kev or epss")
        return self

    def in_words(self) -> str:
        """What it asks for, as who is refused reads it."""
        words = []
        if self.severity is not None:
            words.append(self.severity if self.severity == "critical" else f"{self.severity} or worse")
        if self.score is not None:
            words.append(f"score {self.score:g} or higher")
        if self.fixable is not None:
            words.append("with a fix" if self.fixable else "without a fix")
        if self.kev:
            words.append("known to be exploited")
        if self.epss is not None:
            words.append(f"EPSS {self.epss:g} or higher")
        if self.grace_days:
            words.append(f"known for {self.grace_days} days")
        return ", ".join(words)


class LicenceRule(Wire):
    """Which licences packages may have, by their SPDX names, with ``*`` for any characters. What is denied
    is so though it is allowed as well."""

    allow: tuple[LicenceName, ...] = Field(default=(), max_length=IDS_MAX, description="these, and no others")
    deny: tuple[LicenceName, ...] = Field(default=(), max_length=IDS_MAX, description="not these")
    then: Then = "fail"

    @model_validator(mode="after")
    def _says_something(self) -> LicenceRule:
        if not self.deny and not self.allow:
            raise ValueError("licences are named that are allowed, or those that are denied, or both")
        return self


class FindingsPolicy(Wire):
    """What of a scan an image's verdict rests on."""

    version: Literal[1]
    vulnerabilities: tuple[VulnerabilityRule, ...] = Field(
        default=(), max_length=RULES_MAX, description="one is enough"
    )
    malware: Least | Literal["ignore"] = Field(
        default="info",
        description="from which severity on it is refused; also advisories of malicious packages",
    )
    secrets: Least | None = Field(default=None, description="from which severity on they are refused")
    misconfigurations: tuple[Id, ...] = Field(
        default=(), max_length=IDS_MAX, description="ids that are refused, as ST-USER-ROOT"
    )
    licences: LicenceRule | None = None
    advisories_max_age_days: int | None = Field(
        default=None, ge=1, le=3650, description="older advisories count as none"
    )
    scan_missing: Otherwise = Field(default="error", description="the image was not scanned")
    incomplete: Otherwise = Field(default="error", description="something could not be looked at")
    advisories_missing: Otherwise = Field(
        default="error",
        description="there are no advisories, too old ones, or not the list that a rule needs",
    )
    ecosystem_not_covered: Otherwise = Field(
        default="error", description="the advisories say nothing about packages of its kind"
    )
    version_unknown: Otherwise = Field(
        default="error", description="nobody can say whether a vulnerability holds for the package's version"
    )
    severity_unknown: Otherwise = Field(
        default="error", description="a rule asks for a severity, score or likelihood that is not known"
    )
    licence_unknown: Otherwise = Field(
        default="error", description="a package names no licence, or one that nobody knows and no list names"
    )

    @field_validator("version", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        # True equals 1.
        if isinstance(value, bool):
            raise ValueError("must be the number 1")
        return value

    def canonical(self) -> str:
        """JSON with sorted keys and nothing that is merely the default: one for each meaning."""
        return canonical_json(self, version=self.version)

    @property
    def digest(self) -> Digest:
        """That of its canonical JSON, which it is known by."""
        return digest_of(self.canonical().encode())
