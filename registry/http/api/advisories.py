"""``/api/v1/advisories``: what is known to be wrong with packages, and how old that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from registry.advisories.standing import standing
from registry.http.api.routes import Call, Route
from registry.http.parsers import PARSERS


@dataclass(frozen=True, slots=True)
class AdvisorySource:
    """One source. ``fixed_only``: it tells of nothing that is not fixed yet, so that nothing found is not no
    vulnerability. ``skipped`` is how many of its records could not be used."""

    name: str
    format: str
    records: int
    informational: int
    skipped: int
    fixed_only: bool
    licence: str
    as_of: datetime
    newest_at: datetime | None


@dataclass(frozen=True, slots=True)
class AdvisoryStatus:
    """``problem`` is why no vulnerabilities are found, ``generation`` what is matched; each may be null."""

    problem: str | None
    generation: str | None
    sources: Sequence[AdvisorySource]


async def show_advisories(call: Call) -> AdvisoryStatus:
    """Which advisories are there, and how old each source is."""
    path = call.services.settings.advisories_file
    found = await call.request.app[PARSERS].run(standing, path)
    return AdvisoryStatus(
        found.problem,
        found.status.generation if found.status else None,
        [
            AdvisorySource(
                name=one.name,
                format=one.format,
                records=one.records,
                informational=one.informational,
                skipped=sum(count for _, count, _ in one.skipped),
                fixed_only=one.fixed_only,
                licence=one.licence,
                as_of=one.as_of,
                newest_at=one.newest_at,
            )
            for one in (found.status.sources if found.status else ())
        ],
    )


ROUTES = (Route("GET", "/advisories", "account", show_advisories),)
