"""Facts about single vulnerabilities in single packages, put together to a record for each vulnerability.

Formats that are no lists of records, as trackers and changelogs, say what they say in this way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from registry.advisories.ecosystems import family, order_of
from registry.advisories.osv import MAX_NAME, MAX_SUMMARY
from registry.advisories.severity import SEVERITIES
from registry.advisories.values import Advisory, Affected, Span
from registry.advisories.versions import VersionInvalidError, key_of
from registry.contract.scan import Severity
from registry.oci.printable import printable


@dataclass(frozen=True, slots=True)
class Fact:
    """A package is affected up to ``fixed``, or by all versions there are where that is empty."""

    vulnerability: str
    ecosystem: str
    package: str
    fixed: str
    severity: Severity = "unknown"
    summary: str = ""


@dataclass(slots=True)
class Facts:
    """Facts of a whole source; of two about the same thing the later fix counts: only that one mends it."""

    _by_name: dict[str, dict[tuple[str, str], Fact]] = field(default_factory=dict)

    def add(self, fact: Fact) -> None:
        """Take one more."""
        known = self._by_name.setdefault(fact.vulnerability, {})
        place = (fact.ecosystem, fact.package)
        before = known.get(place)
        if before is None or _is_later(fact, before):
            known[place] = fact

    def advisories(self) -> Iterator[Advisory]:
        """A record for each vulnerability, named as OSV names those of the distribution."""
        for name, facts in sorted(self._by_name.items()):
            each = [fact for _, fact in sorted(facts.items())]
            worst = max((fact.severity for fact in each), key=SEVERITIES.index)
            summary = printable(next((fact.summary for fact in each if fact.summary), ""))
            yield Advisory(
                id=f"{family(each[0].ecosystem).upper().replace(' ', '-')}-{name}",
                kind="vulnerability",
                aliases=(),
                upstream=(name,) if name.startswith("CVE-") else (),
                summary=summary[:MAX_SUMMARY],
                severity=worst,
                score=None,
                published_at="",
                modified_at="",
                affected=tuple(
                    Affected(
                        fact.ecosystem,
                        fact.package,
                        (Span("0", fact.fixed, "fixed" if fact.fixed else ""),),
                        (),
                        fact.severity,
                        None,
                    )
                    for fact in each
                ),
            )


def is_fit(*texts: str) -> bool:
    """Whether these can be names and versions of packages."""
    return all(text.isprintable() and 0 < len(text) <= MAX_NAME for text in texts)


def _is_later(fact: Fact, before: Fact) -> bool:
    if not fact.fixed or not before.fixed:
        return not fact.fixed
    order = order_of(fact.ecosystem)
    try:
        return order is not None and bool(key_of(order, before.fixed) < key_of(order, fact.fixed))
    except VersionInvalidError:
        return fact.fixed > before.fixed
