"""Vulnerabilities that other scanners report, as matches beside those of our own advisories. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from registry.advisories.matching import Match
from registry.advisories.severity import SEVERITIES
from registry.contract.scan import Reported, Scan


def with_reported(scan: Scan, matches: Sequence[Match]) -> tuple[Match, ...]:
    """``matches`` and what other scanners report of the image, by package in their order. What both tell of,
    under any of its names, stays as our advisories have it; of what several scanners report the first counts,
    with the worst severity of all."""
    named: dict[tuple[int, str], int] = {}
    found = list(matches)
    own = len(found)
    for number, one in enumerate(found):
        for name in (one.id, *one.aliases):
            named.setdefault((one.package_index, name), number)
    for told in scan.reported:
        names = (told.id, *told.aliases)
        same = next((named[told.package, name] for name in names if (told.package, name) in named), None)
        if same is None:
            same = len(found)
            found.append(_match(told))
        elif same >= own:
            found[same] = _worse(found[same], _match(told))
        for name in names:
            named.setdefault((told.package, name), same)
    return tuple(sorted(found, key=lambda one: one.package_index))


def without_reported(scan: Scan, not_looked_up: Mapping[str, int]) -> dict[str, int]:
    """How many packages nobody has looked up, by ecosystem: those that another scanner told of itself, and
    found vulnerable, it has looked up."""
    looked_up = {
        one.package
        for one in scan.reported
        if scan.packages[one.package].scanner is not None and scan.packages[one.package].owned_by is None
    }
    counts = Counter(scan.packages[index].ecosystem for index in looked_up)
    left = {name: count - counts[name] for name, count in not_looked_up.items()}
    return {name: count for name, count in left.items() if count > 0}


def reporters_of(scan: Scan) -> dict[tuple[int, str], tuple[str, ...]]:
    """Which other scanners report a vulnerability, by its package and each of its names."""
    found: dict[tuple[int, str], tuple[str, ...]] = {}
    for one in scan.reported:
        for name in (one.id, *one.aliases):
            by = found.get((one.package, name), ())
            found[one.package, name] = by if one.scanner in by else (*by, one.scanner)
    return found


def _match(told: Reported) -> Match:
    return Match(
        package_index=told.package,
        id=told.id,
        aliases=told.aliases,
        kind="malicious" if told.id.startswith("MAL-") else "vulnerability",
        severity=told.severity,
        score=told.score,
        summary=told.summary,
        fixed_version=told.fixed_version,
        state="affected",
        kev=False,
        epss=None,
        published_at=None,
    )


def _worse(one: Match, other: Match) -> Match:
    """``one``, as severe as the worse of both; what is unknown is nothing to go by."""
    severity = max(one.severity, other.severity, key=SEVERITIES.index)
    scores = [score for score in (one.score, other.score) if score is not None]
    fixed = one.fixed_version or other.fixed_version
    return replace(one, severity=severity, score=max(scores, default=None), fixed_version=fixed)
