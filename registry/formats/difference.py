"""What is different between two images: packages, and what is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from registry.advisories.report import Report
from registry.contract.scan import WORST_FIRST, Severity
from registry.formats.shown import dumped
from registry.oci.printable import printable


@dataclass(frozen=True, slots=True)
class Change:
    """A package whose versions differ; ``before`` is empty for one that was added, ``after`` for one that was
    removed."""

    kind: str
    name: str
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong in an image. ``of`` is the package of a vulnerability, and the place of all else."""

    kind: str
    id: str
    of: str
    severity: Severity
    evidence: str
    fixed_version: str | None


@dataclass(frozen=True, slots=True)
class ScanDifference:
    """From one image to another. Lists are sorted: findings the worst first, packages by kind and name."""

    before: str
    after: str
    packages: tuple[Change, ...]
    new: tuple[Finding, ...]
    gone: tuple[Finding, ...]
    same: tuple[Finding, ...]
    notes: tuple[str, ...]
    """why the two may differ in what is known of them, and not in what they are"""


def difference(before: Report, after: Report, *, names: tuple[str, str]) -> ScanDifference:
    """What is different. Excused findings are none; one and the same in several places of an image is one.

    A vulnerability is the same one in another version of its package.
    """
    old, new = _findings(before), _findings(after)
    return ScanDifference(
        *names,
        packages=tuple(_changes(before, after)),
        new=_sorted(new[key] for key in new.keys() - old.keys()),
        gone=_sorted(old[key] for key in old.keys() - new.keys()),
        same=_sorted(new[key] for key in new.keys() & old.keys()),
        notes=tuple(_notes(before, after)),
    )


def _changes(before: Report, after: Report) -> Iterator[Change]:
    old, new = _versions(before), _versions(after)
    for kind, name in sorted(old.keys() | new.keys()):
        were, are = old.get((kind, name), ()), new.get((kind, name), ())
        if were != are:
            yield Change(kind, name, were, are)


def _versions(known: Report) -> dict[tuple[str, str], tuple[str, ...]]:
    found: dict[tuple[str, str], set[str]] = {}
    for one in known.scan.packages:
        found.setdefault((one.kind, one.name), set()).add(one.version)
    return {key: tuple(sorted(versions)) for key, versions in found.items()}


def _findings(known: Report) -> dict[tuple[str, ...], Finding]:
    excuses = known.excuses()
    found: dict[tuple[str, ...], Finding] = {}
    for match in known.matches:
        if (match.id, match.package_index) in excuses:
            continue
        package = known.scan.packages[match.package_index]
        key: tuple[str, ...] = (match.kind, match.id, package.kind, package.name)
        one = Finding(match.kind, match.id, package.name, match.severity, "", match.fixed_version)
        if key not in found or _rank(one) < _rank(found[key]):
            found[key] = one
    for thing in known.scan.found:
        one = Finding(thing.kind, thing.rule, thing.where, thing.severity, thing.evidence, None)
        found.setdefault((thing.kind, thing.rule, thing.where, thing.evidence), one)
    return found


def _rank(one: Finding) -> int:
    return WORST_FIRST.index(one.severity)


def _sorted(findings: Iterator[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda one: (_rank(one), one.kind, one.id, one.of, one.evidence)))


def _notes(before: Report, after: Report) -> Iterator[str]:
    for which, known in (("first", before), ("second", after)):
        if not known.scan.is_complete():
            yield f"the scan of the {which} image is not complete"
        if known.not_looked_up:
            count = sum(known.not_looked_up.values())
            yield f"advisories say nothing about {count} packages of the {which} image"
    if before.advisories is None and after.advisories is None:
        yield "no advisories were given: vulnerabilities are not compared"
    elif before.advisories is None or after.advisories is None:
        which = "first" if before.advisories is None else "second"
        yield f"no advisories were given for the {which} image: its vulnerabilities are not known"
    elif before.advisories.generation != after.advisories.generation:
        yield "the two were matched with different advisories: what is new may only be known since"


def difference_document(found: ScanDifference) -> bytes:
    """The difference as JSON."""
    return dumped(
        {
            "before": found.before,
            "after": found.after,
            "packages": [asdict(one) for one in found.packages],
            "findings": {
                which: {"by_severity": _counted(some), "items": [asdict(one) for one in some]}
                for which, some in _kinds(found).items()
            },
            "notes": list(found.notes),
        }
    )


def difference_table(found: ScanDifference) -> bytes:
    """The difference as lines for a terminal."""
    return "".join(f"{printable(line)}\n" for line in _lines(found)).encode()


def _kinds(found: ScanDifference) -> Mapping[str, tuple[Finding, ...]]:
    return {"new": found.new, "gone": found.gone, "same": found.same}


def _counted(some: tuple[Finding, ...]) -> dict[str, int]:
    count = Counter(one.severity for one in some)
    return {severity: count[severity] for severity in WORST_FIRST if count[severity]}


def _lines(found: ScanDifference) -> Iterator[str]:
    yield f"from {found.before}"
    yield f"to   {found.after}"
    yield from found.notes
    added = sum(not one.before for one in found.packages)
    removed = sum(not one.after for one in found.packages)
    yield ""
    yield f"packages: {added} added, {removed} removed, {len(found.packages) - added - removed} changed"
    for change in found.packages:
        mark = "+" if not change.before else "-" if not change.after else "~"
        versions = " -> ".join(", ".join(some) for some in (change.before, change.after) if some)
        yield f"  {mark} {change.kind} {change.name} {versions}"
    for which, some in _kinds(found).items():
        by_severity = ", ".join(f"{count} {severity}" for severity, count in _counted(some).items())
        yield ""
        yield f"findings {which}: {by_severity or 'none'}"
        for one in some if which != "same" else ():
            fixed = f": fixed in {one.fixed_version}" if one.fixed_version else ""
            evidence = f" [{one.evidence}]" if one.evidence else ""
            yield f"  {one.severity:<8} {one.id}  {one.of}{evidence}{fixed}"


def exit_code(found: ScanDifference, after: Report, counted: tuple[str, ...]) -> int:
    """1 where something new has a severity of ``counted`` or an unknown one; 2 where nothing has, but not all
    of the second image was looked at, or looked up; else 0."""
    if any(one.severity in counted or one.severity == "unknown" for one in found.new):
        return 1
    return 0 if after.scan.is_complete() and not after.not_looked_up else 2
