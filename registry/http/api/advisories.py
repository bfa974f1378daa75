"""``/api/v1/advisories``: what is known to be wrong with packages, and how old that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from registry.advisories.standing import standing
from registry.auth.access import require_writable
from registry.errors import NotFoundError
from registry.http.api.routes import Call, Route
from registry.http.matching import MATCHER, REMATCH
from registry.http.parsers import PARSERS
from registry.trials.rematching import Progress, ask, progress_of


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
    """``problem`` is why no vulnerabilities are found, ``generation`` that of this host's file; each may be
    null. ``matching`` is by the file that counts for all replicas: null where there never was one."""

    problem: str | None
    generation: str | None
    sources: Sequence[AdvisorySource]
    matching: Progress | None


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
        await progress_of(call.services.database),
    )


async def match_again(call: Call) -> Progress:
    """Match all packages of all images again, with the file of advisories of the host that answers.

    It counts from now on, whichever counted before."""
    require_writable(read_only=call.services.settings.read_only)
    app = call.request.app
    begun = await ask(call.services.database, app[MATCHER], actor=call.actor)
    app[REMATCH].set()
    return begun


ROUTES = (
    Route("GET", "/advisories", "account", show_advisories),
    Route("POST", "/advisories/matchings", "admin", match_again, status=202, errors=(NotFoundError,)),
)
