"""Which advisories hold for which packages. Given the file, a rule without a clock, a network or a choice."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, Protocol

from registry.advisories.ecosystems import fold, names_either, order_of
from registry.advisories.file import Advisories, Candidate
from registry.advisories.severity import SEVERITIES
from registry.advisories.values import Kind, Span
from registry.advisories.versions import Key, VersionInvalidError, key_of
from registry.contract.scan import Severity

State = Literal["affected", "unknown"]
"""``unknown``: there are advisories about the package, and nobody can say whether they hold for it."""

RULES = 2
"""Raised whenever the same file is to give other matches than before: then all is matched again."""

_KINDS: tuple[Kind, ...] = ("malicious", "vulnerability", "informational")
_CVE = re.compile(r"CVE-(\d{4})-(\d+)")


class Named(Protocol):
    """What is looked up of a package."""

    @property
    def ecosystem(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def source(self) -> str | None: ...
    @property
    def source_version(self) -> str | None: ...


class Packaged(Named, Protocol):
    """What matching needs of a package: :class:`registry.contract.scan.Package` has it."""

    @property
    def owned_by(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Match:
    """One vulnerability of one package, whatever number of records tell of it.

    ``id`` is its CVE, else the GHSA, else that of a record; ``aliases`` are all its other names and those of
    bulletins about it. ``fixed_version`` is that of the branch that the package's version lies in; ``epss``
    is from 0 to 1.
    """

    package_index: int
    id: str
    aliases: tuple[str, ...]
    kind: Kind
    severity: Severity
    score: float | None
    summary: str
    fixed_version: str | None
    state: State
    kev: bool
    epss: float | None
    published_at: datetime | None


def match(advisories: Advisories, packages: Iterable[Packaged]) -> list[Match]:
    """All matches, by package in their order, then by id; each distinct package is looked up once.

    A package whose file belongs to a distribution's package is passed over: the distribution mends it, under
    a version that its language's advisories do not know.
    """
    look = Look(advisories)
    found: list[Match] = []
    for index, package in enumerate(packages):
        if package.owned_by is None:
            matches = look.up(package)
            found += [replace(one, package_index=index) if index else one for one in matches]
    return found


def not_looked_up(advisories: Advisories, packages: Iterable[Packaged]) -> dict[str, int]:
    """How many packages there are of each ecosystem that the advisories say nothing about at all; of ``""``
    those whose ecosystem has no name."""
    count = Counter(package.ecosystem for package in packages if package.owned_by is None)
    return {one: count[one] for one in sorted(count) if not advisories.covers(one)}


@dataclass(frozen=True, slots=True)
class Name:
    """A name that advisories know a package by, and its version under that name; ``bare``: without an epoch
    that it may have."""

    name: str
    version: str
    bare: bool = False


def names_of(package: Named) -> tuple[Name, ...]:
    """All names that advisories may know a package by. Those of a distribution are about its source; those of
    rpm about that or about the package itself."""
    version = package.source_version or package.version
    source = Name(package.source or package.name, version)
    if not names_either(package.ecosystem):
        return (source,)
    bare = version != package.version and ":" not in version
    return tuple(dict.fromkeys((replace(source, bare=bare), Name(package.name, package.version))))


@dataclass(slots=True)
class Look:
    """Matches of package after package; what was asked for once is kept."""

    advisories: Advisories
    _known: dict[tuple[str, tuple[Name, ...]], tuple[Match, ...]] = field(default_factory=dict)
    _details: dict[str, tuple[bool, float | None, Severity, float | None]] = field(default_factory=dict)

    def up(self, package: Named) -> tuple[Match, ...]:
        """The matches of one package, by id, as of the package with index 0."""
        asked = (package.ecosystem, names_of(package))
        if (known := self._known.get(asked)) is None:
            known = self._known[asked] = tuple(self._matches(*asked))
        return known

    def _matches(self, ecosystem: str, names: Sequence[Name]) -> list[Match]:
        order = order_of(ecosystem)
        if order is None:
            return []
        hits = [
            _Hit(one, *hit)
            for named in names
            for one in self.advisories.about(ecosystem, fold(ecosystem, named.name))
            if (hit := _judge(f"{order}-bare" if named.bare else order, named.version, one)) is not None
        ]
        return sorted((self._folded(order, group) for group in _grouped(hits)), key=lambda one: one.id)

    def _folded(self, order: str, group: _Group) -> Match:
        names = sorted(group.names, key=_rank)
        kinds = {hit.candidate.kind for hit in group.hits}
        kind = next(one for one in _KINDS if one in kinds)
        about = [hit.candidate for hit in group.hits if hit.candidate.kind == kind]
        kev, epss, severity, score = self._of_names(names)
        # What is said of this very package comes before what is said of the vulnerability elsewhere: a
        # distribution knows whether its build is open to it.
        if said := [(SEVERITIES.index(one.severity), one.score or 0.0, one) for one in about
                    if one.severity != "unknown"]:  # fmt: skip
            worst = max(said, key=lambda each: each[:2])[2]
            severity, score = worst.severity, worst.score
        return Match(
            package_index=0,
            id=names[0],
            aliases=tuple(names[1:]),
            kind=kind,
            severity=severity,
            score=score,
            summary=next(
                (one.summary for one in sorted(about, key=lambda c: _rank(c.id)) if one.summary), ""
            ),
            fixed_version=_latest(order, [hit.fixed for hit in group.hits if hit.fixed is not None]),
            state="affected" if any(hit.state == "affected" for hit in group.hits) else "unknown",
            kev=kev,
            epss=epss,
            published_at=min((at for one in about if (at := one.published_at)), default=None),
        )

    def _of_names(self, names: Sequence[str]) -> tuple[bool, float | None, Severity, float | None]:
        """What is known of a vulnerability beyond this package."""
        if (known := self._details.get(names[0])) is None:
            cves = [name for name in names if _CVE.fullmatch(name)]
            scores = [score for cve in cves if (score := self.advisories.likelihood(cve)) is not None]
            known = self._details[names[0]] = (
                any(self.advisories.is_exploited(cve) for cve in cves),
                max(scores, default=None),
                *self.advisories.elsewhere(names[0]),
            )
        return known


@dataclass(frozen=True, slots=True)
class _Hit:
    candidate: Candidate
    state: State
    fixed: str | None


@dataclass(slots=True)
class _Group:
    """Hits that are about one vulnerability. Two groups are one as soon as they share one of ``keys``."""

    keys: set[str]
    names: set[str]
    hits: list[_Hit]

    def join(self, other: _Group) -> None:
        """Take in what is about the same."""
        self.keys |= other.keys
        self.names |= other.names
        self.hits += other.hits


def _judge(order: str, version: str, candidate: Candidate) -> tuple[State, str | None] | None:
    """Whether a record holds for a version, and what mends it; ``None`` if not.

    OSV: a version is affected if it is listed, or lies in a span.
    """
    try:
        key = key_of(order, version)
    except VersionInvalidError:
        return ("affected", None) if version in candidate.versions else ("unknown", None)
    unknown = False
    for span in candidate.spans:
        try:
            if _lies_in(order, key, span):
                return "affected", span.end if span.how == "fixed" else None
        except VersionInvalidError:
            unknown = True
    if version in candidate.versions or (not candidate.spans and _is_listed(order, key, candidate.versions)):
        return "affected", _next_fix(order, key, candidate.spans)
    return ("unknown", None) if unknown else None


def _lies_in(order: str, key: Key, span: Span) -> bool:
    if span.introduced != "0" and key < key_of(order, span.introduced):
        return False
    if span.how == "":
        return True
    end = key_of(order, span.end)
    return bool(key < end or (span.how == "last" and key == end))


def _is_listed(order: str, key: Key, versions: Iterable[str]) -> bool:
    for version in versions:
        try:
            if key_of(order, version) == key:
                return True
        except VersionInvalidError:
            continue
    return False


def _next_fix(order: str, key: Key, spans: Iterable[Span]) -> str | None:
    """The first fix above a version that lies in no span, though it is listed."""
    first: tuple[Key, str] | None = None
    for span in spans:
        try:
            end = key_of(order, span.end) if span.how == "fixed" else None
        except VersionInvalidError:
            continue
        if end is not None and key < end and (first is None or end < first[0]):
            first = (end, span.end)
    return first[1] if first else None


def _latest(order: str, versions: Sequence[str]) -> str | None:
    """The last of versions that mend a vulnerability: only that one mends it by all records."""
    latest: tuple[Key, str] | None = None
    for version in versions:
        try:
            key = key_of(order, version)
        except VersionInvalidError:
            continue
        if latest is None or latest[0] < key:
            latest = (key, version)
    return latest[1] if latest else None


def _grouped(hits: Iterable[_Hit]) -> Iterable[_Group]:
    # By key: a kernel has thousands of records, and whoever pushes an image says which versions there are.
    groups: dict[int, _Group] = {}
    of_key: dict[str, int] = {}
    for number, new in enumerate(_alone(hits)):
        groups[number] = new
        first, *others = sorted({number, *(of_key[key] for key in new.keys if key in of_key)})
        of_key |= dict.fromkeys(new.keys, first)
        for other in others:
            joined = groups.pop(other)
            groups[first].join(joined)
            of_key |= dict.fromkeys(joined.keys, first)
    return groups.values()


def _alone(hits: Iterable[_Hit]) -> Iterator[_Group]:
    for hit in hits:
        one = hit.candidate
        if len(one.upstream) > 1:
            # A bulletin about several vulnerabilities is no name of any one of them.
            for name in one.upstream:
                yield _Group({name}, {name, one.id}, [hit])
        else:
            names = {one.id, *one.aliases, *one.upstream}
            yield _Group(set(names), names, [hit])


def _rank(name: str) -> tuple[int, int, int, str]:
    if (match := _CVE.fullmatch(name)) is not None:
        return (0, int(match[1]), int(match[2]), name)
    return (1 if name.startswith("GHSA-") else 2, 0, 0, name)
