"""What another scanner says, put into the document of a scan. Pure.

Whatever it says, what is there stays: it adds, under its own name, as much as the document has room for.
"""

from __future__ import annotations

from collections.abc import Sequence

from registry.advisories.severity import SEVERITIES
from registry.contract.scan import (
    MAX_FOUND,
    MAX_INCOMPLETE,
    MAX_PACKAGES,
    MAX_REPORTED,
    WORST_FIRST,
    Incomplete,
    OtherScanner,
    Package,
    Reported,
    Scan,
)
from sandbox.scanners.document import DOCUMENT_BYTES, Room
from sandbox.scanners.others.said import Said, cut


def with_failed(scan: Scan, name: str, image: str, reason: str) -> Scan:
    """The scan, of which this scanner says nothing, and why."""
    gap = Incomplete(scanner=name, reason=cut(reason, 300))
    return scan.model_copy(
        update={
            "incomplete": (gap, *scan.incomplete)[:MAX_INCOMPLETE],
            "others": (*scan.others, OtherScanner(name=name, image=image, state="failed")),
        }
    )


def with_said(scan: Scan, said: Said, name: str, image: str, gaps: Sequence[Incomplete] = ()) -> Scan:
    """The scan with what this scanner adds; ``gaps`` are what it could not look at, by our own account."""
    room = Room(DOCUMENT_BYTES - len(scan.model_dump_json()))
    lacks = [*gaps, *(one.model_copy(update={"scanner": name}) for one in said.incomplete)]
    if said.truncated:
        lacks.append(Incomplete(scanner=name, reason="it says that it found more than it could say"))
    kept_lacks = room.take(lacks, MAX_INCOMPLETE - len(scan.incomplete))
    found = [
        # What the image may say of itself is ours to weigh, and a secret is nobody's to repeat.
        one.model_copy(
            update={
                "scanner": name,
                "real_severity": None,
                "evidence": "" if one.kind == "secret" else one.evidence,
            }
        )
        for one in said.found
    ]
    kept_found = room.take(found, MAX_FOUND - len(scan.found))
    there: dict[tuple[str, str, str, str], int] = {}
    for index, package in enumerate(scan.packages):
        for kind in (package.kind, "other"):
            # A format that says no kind means whatever has this name and version.
            for path in ("", package.path):
                there.setdefault((kind, package.name, package.version, path), index)
    numbers: list[int | None] = []
    added: list[Package] = []
    for package in said.packages:
        same = (package.kind, package.name, package.version)
        known = there.get((*same, package.path), there.get((*same, "")))
        if known is None:
            own = package.model_copy(update={"scanner": name, "owned_by": None})
            took = room.take([own], MAX_PACKAGES - len(scan.packages) - len(added))
            added += took
            known = len(scan.packages) + len(added) - 1 if took else None
            if known is not None:
                there[*same, package.path] = there[*same, ""] = known
        numbers.append(known)
    reported: dict[tuple[str, int], Reported] = {}
    for one in said.reported:
        number = numbers[one.package]
        if number is None:
            continue
        told = one.model_copy(update={"scanner": name, "package": number})
        earlier = reported.get((one.id, number))
        reported[one.id, number] = told if earlier is None else _worse(earlier, told)
    kept_reported = room.take(list(reported.values()), MAX_REPORTED - len(scan.reported))
    complete = not lacks and not room.spent
    every = [*scan.found, *kept_found]
    every.sort(key=lambda one: (WORST_FIRST.index(one.severity), one.where, one.rule))
    return scan.model_copy(
        update={
            "packages": (*scan.packages, *added),
            "found": tuple(every),
            "incomplete": (*scan.incomplete, *kept_lacks),
            "reported": (*scan.reported, *kept_reported),
            "truncated": scan.truncated or room.spent,
            "others": (
                *scan.others,
                OtherScanner(
                    name=name,
                    image=image,
                    said=cut(said.scanner, 200),
                    state="complete" if complete else "incomplete",
                ),
            ),
        }
    )


def _worse(one: Reported, other: Reported) -> Reported:
    """``one``, as severe as the worse of both: packages that a scanner tells apart may be one to us."""
    severity = max(one.severity, other.severity, key=SEVERITIES.index)
    scores = [each.score for each in (one, other) if each.score is not None]
    return one.model_copy(update={"severity": severity, "score": max(scores, default=None)})
