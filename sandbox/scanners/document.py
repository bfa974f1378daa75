"""The document of a scan, from an image's view. Pure.

It is bounded whatever the image holds; what does not fit is said. Names come from hostile files: they are cut
to what the document takes, and what is no text in a path is written as ``%XX``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from registry.contract.base import Wire
from registry.contract.scan import (
    MAX_FOUND,
    MAX_INCOMPLETE,
    MAX_PACKAGES,
    WORST_FIRST,
    Found,
    Incomplete,
    Package,
    Scan,
    ScannedLayer,
    System,
)
from sandbox.scanners.facts import FoundPackage, FoundSystem, FoundThing
from sandbox.scanners.merge import Gap, Owner, Told, View
from sandbox.scanners.packages.copyrights import RULE as COPYRIGHT
from sandbox.scanners.packages.copyrights import package_of
from sandbox.scanners.packages.ecosystems import ecosystem_of
from sandbox.scanners.packages.reading import MAX_LICENCES

DISTRIBUTIONS = ("dpkg", "apk", "rpm")
SYSTEM_FILES = ("etc/os-release", "usr/lib/os-release")
"""The first that is there says what the system is (os-release(5))."""
DOCUMENT_BYTES = 24 * 1024 * 1024
"""Less than the document may have: some of it is not counted here."""
W = TypeVar("W", bound=Wire)


@dataclass(frozen=True, slots=True)
class Subject:
    """The image that was scanned. ``created_by`` has a line for each of ``diff_ids``, or an empty one."""

    digest: str
    platform: str
    diff_ids: tuple[str, ...]
    created_by: tuple[str, ...]
    lease: str = field(default="", repr=False)


def make_scan(view: View, subject: Subject, *, scanner: str, failed: Iterable[Gap] = ()) -> Scan:
    """The document; ``failed`` stands before all other gaps."""
    system = _system(view.told)
    room = Room()
    gaps = [_gap(gap) for gap in dict.fromkeys((*failed, *view.gaps))]
    words = _copyrights(view.told)
    found = [
        _found(one, thing, view.owned) for one in view.told for thing in one.things if thing.rule != COPYRIGHT
    ]
    found.sort(key=lambda one: (WORST_FIRST.index(one.severity), one.where, one.rule))
    packages = [
        package
        for one in view.told
        for of_file in one.packages
        if (package := _package(one, of_file, words, system, view.owned)) is not None
    ]
    packages.sort(key=lambda one: (one.kind, one.name, one.version, one.path))
    nameless = sum(len(one.packages) for one in view.told) - len(packages)
    if nameless:
        reason = f"{nameless} packages have no name or version that could be one"
        gaps.insert(0, Incomplete(scanner="packages", reason=reason))
    kept_gaps = room.take(gaps, MAX_INCOMPLETE)
    kept_packages = room.take(packages, MAX_PACKAGES)
    kept_found = room.take(found, MAX_FOUND)
    return Scan(
        lease=subject.lease,
        scanner=scanner[:200],
        digest=subject.digest,
        platform=subject.platform,
        system=None if system is None else _system_of(system),
        layers=tuple(
            ScannedLayer(diff_id=diff_id, created_by=_text(line, 2000))
            for diff_id, line in zip(subject.diff_ids, subject.created_by, strict=True)
        ),
        packages=kept_packages,
        found=kept_found,
        incomplete=kept_gaps,
        truncated=room.spent,
    )


@dataclass(slots=True)
class Room:
    """What a document has room for yet; ``spent``: there was more."""

    left: int = DOCUMENT_BYTES
    spent: bool = False

    def take(self, some: Sequence[W], most: int) -> tuple[W, ...]:
        """The first of them, as many as there is room for."""
        kept: list[W] = []
        for one in some:
            self.left -= len(one.model_dump_json()) + 1
            if len(kept) == most or self.left < 0:
                self.spent = True
                break
            kept.append(one)
        return tuple(kept)


def _system(told: Iterable[Told]) -> FoundSystem | None:
    by_path = {one.name or one.path: one.system for one in told if one.system is not None}
    return next((by_path[path] for path in SYSTEM_FILES if path in by_path), None)


def _system_of(found: FoundSystem) -> System:
    return System(id=_text(found.id, 64), version=_text(found.version, 64), name=_text(found.name, 200))


def _package(
    told: Told,
    found: FoundPackage,
    words: Mapping[str, tuple[str, ...]],
    system: FoundSystem | None,
    owned: Mapping[str, Owner],
) -> Package | None:
    texts = (found.name, found.version, found.source, found.source_version)
    if not found.name or not found.version or any(len(one) > 300 or not _is_text(one) for one in texts):
        return None
    owner = None
    if found.kind not in DISTRIBUTIONS and told.path in owned:
        owner = _text(owned[told.path].package, 300)
    return Package(
        kind=found.kind,
        ecosystem=_text(ecosystem_of(system, found.kind), 64),
        name=found.name,
        version=found.version,
        architecture=_text(found.architecture, 64),
        source=found.source or None,
        source_version=found.source_version or None,
        licences=tuple(_text(one, 300) for one in _licences_of(found, words)),
        path=shown_path(told.path, found.path),
        layer=told.since.get(found, told.layer),
        owned_by=owner,
    )


def _copyrights(told: Sequence[Told]) -> Mapping[str, tuple[str, ...]]:
    """The licences that copyright files name, by package and by source. A package whose folder is a link to
    another's has the licences of that: both are of one source (Debian Policy, 12.3)."""
    words: dict[str, tuple[str, ...]] = {}
    for one in told:
        package = package_of(one.path)
        said = tuple(thing.title for thing in one.things if thing.rule == COPYRIGHT)
        if package is not None and said:
            words[f"package {package}"] = said
    of_sources: dict[str, tuple[str, ...]] = {}
    for found in (package for one in told for package in one.packages if package.kind == "dpkg"):
        said = words.get(f"package {found.name}", ())
        source = f"source {found.source or found.name}"
        of_sources[source] = tuple(dict.fromkeys((*of_sources.get(source, ()), *said)))[:MAX_LICENCES]
    return words | of_sources


def _licences_of(found: FoundPackage, words: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    if found.kind != "dpkg":
        return found.licences
    return words.get(f"package {found.name}") or words.get(f"source {found.source or found.name}", ())


def _found(told: Told, thing: FoundThing, owned: Mapping[str, Owner]) -> Found:
    lowered = told.deleted_in_layer is None and _is_as_packed(told, thing, owned.get(told.path))
    return Found(
        kind=thing.kind,
        rule=_text(thing.rule, 100),
        severity="info" if lowered else thing.severity,
        # What says so is in the image, and whoever made the image can have written it.
        real_severity=thing.severity if lowered and thing.severity != "info" else None,
        title=_text(thing.title, 300),
        remedy=_text(thing.remedy, 1000),
        where=shown_path(told.path, thing.path),
        line=thing.line,
        evidence=_text(thing.evidence, 300),
        layer=told.layer,
        deleted_in_layer=told.deleted_in_layer,
    )


def _is_as_packed(told: Told, thing: FoundThing, owner: Owner | None) -> bool:
    """Whether it is of a distribution's own file as that was packed: what looks like a secret there is an
    example of one, and what sets the user is to."""
    if owner is None or owner.digest not in thing.digests:
        return False
    # Of a mode nothing is known. A layer that has the file and not its package has changed it.
    return thing.kind != "misconfiguration" or told.layer <= owner.layer


def _gap(gap: Gap) -> Incomplete:
    scanner = _text(gap.module or "layers", 64)
    return Incomplete(
        scanner=scanner, where=shown_path(gap.path), reason=_text(gap.reason, 300), layer=gap.layer
    )


def shown_path(path: str, inside: str = "") -> str:
    """A path as text: what is no UTF-8 as ``%XX``; ``inside`` is the path in an archive."""
    return _text(f"{path}!/{inside}" if inside else path, 4096)


def _text(text: str, most: int) -> str:
    if not _is_text(text):
        text = "".join(one if _is_text(one) else f"%{ord(one) & 0xFF:02X}" for one in text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
