"""What advisories are made of, whatever format they came in. Pure values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from registry.contract.scan import Severity

Kind = Literal["vulnerability", "informational", "malicious"]
"""``informational`` is what nobody exploits, as that a package has no maintainer; ``malicious`` a package
that is an attack itself."""

End = Literal["fixed", "last", "limit", ""]
"""How a span ends: before the fixed version, with the last affected one, before a limit that fixes nothing,
or not at all."""


@dataclass(frozen=True, slots=True)
class Span:
    """Versions from ``introduced`` on (``0`` is before all) up to ``end``."""

    introduced: str
    end: str
    how: End


@dataclass(frozen=True, slots=True)
class Affected:
    """Which versions of one package are affected. ``package`` is folded as its ecosystem says."""

    ecosystem: str
    package: str
    spans: tuple[Span, ...]
    versions: tuple[str, ...]
    severity: Severity
    score: float | None


@dataclass(frozen=True, slots=True)
class Advisory:
    """One record of a source.

    ``aliases`` name the same vulnerability; ``upstream`` are those that a distribution's bulletin is about,
    which may be several. Times are RFC 3339 in UTC with seconds, empty where the record has none.
    """

    id: str
    kind: Kind
    aliases: tuple[str, ...]
    upstream: tuple[str, ...]
    summary: str
    severity: Severity
    score: float | None
    published_at: str
    modified_at: str
    affected: tuple[Affected, ...]


@dataclass(frozen=True, slots=True)
class Exploited:
    """A line of the list of vulnerabilities that are known to be exploited. Dates as in ``2026-11-24``."""

    cve: str
    added_on: str
    due_on: str


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How likely a vulnerability is to be exploited within 30 days, from 0 to 1 (EPSS)."""

    cve: str
    score: float


@dataclass(frozen=True, slots=True)
class Skip:
    """A record, or a part of one, that was left out. ``reason`` is one of few, to be counted."""

    where: str
    reason: str


Item = Advisory | Exploited | Likelihood | Skip
