"""Java archives, and those within them: which artifact each is, and which were merged into it.

Maven leaves ``META-INF/maven/GROUP/ARTIFACT/pom.properties``, one for each artifact that was merged. Where
there is none, the manifest and the file's own name say what they can; an artifact whose group nobody says is
named without one, and one without any version is none. What a class file is, is not looked at.

Licences are those of ``pom.xml`` beside the properties, else the manifest's ``Bundle-License``
(:mod:`sandbox.scanners.packages.poms`). What is inherited from another pom is in no archive.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from sandbox.scanners.facts import Entry, FoundPackage, IncompleteError
from sandbox.scanners.packages.poms import bundle_licences, pom_licences
from sandbox.scanners.packages.reading import Fact, Reader, is_word
from sandbox.scanners.packages.zips import Budget, Member, NoArchiveError, inflate, members

ARTIFACTS = (".jar", ".war", ".ear", ".sar", ".par", ".hpi", ".jpi", ".kar", ".lpkg", ".nbm")
ARCHIVES = (*ARTIFACTS, ".zip")
MAX_DEPTH = 3
"""An enterprise archive in a zip holds a web archive that holds libraries."""
MAX_NESTED_BYTES = 64 * 1024 * 1024
"""Of an archive in the file; half of it one deeper, since all of them are in memory then."""
MAX_ARTIFACTS = 5_000
MAX_TEXT_BYTES = 256 * 1024
MAX_INFLATED_BYTES = 512 * 1024 * 1024
MAX_ENTRIES = 300_000
MAX_ARCHIVES = 3_000
MAX_CLAIMED_BYTES = 2 * 1024 * 1024 * 1024
MANIFEST = "META-INF/MANIFEST.MF"

_pom = re.compile(r"META-INF/maven/([^/]+)/([^/]+)/pom\.(properties|xml)")
_versioned = re.compile(r"(.+?)-(v?[0-9].*)")
_group = re.compile(r"[A-Za-z_][\w-]*(?:\.[\w-]+)+")


@dataclass(slots=True)
class _Walk:
    """What is left to spend on one file, and what could not be read of it so far."""

    budget: Budget
    faults: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Archive:
    """What is of interest in one archive."""

    poms: dict[tuple[str, str], dict[str, Member]] = field(default_factory=dict)
    """by group and artifact: what of ``properties`` and ``xml`` is there"""
    manifest: Member | None = None
    nested: list[Member] = field(default_factory=list)


def wants(entry: Entry) -> bool:
    """What is named like an archive of Java, or like a zip, which may hold some."""
    return entry.kind == "file" and entry.path.lower().endswith(ARCHIVES)


def read(entry: Entry, content: BinaryIO) -> Iterator[Fact]:
    """Each artifact; ``path`` says where in the file it was found."""
    walk = _Walk(Budget(MAX_INFLATED_BYTES, MAX_ENTRIES, MAX_ARCHIVES))
    yield from _artifacts(content, entry.path.rpartition("/")[2], "", walk)
    if walk.faults:
        more = f", and {len(walk.faults) - 1} more" if len(walk.faults) > 1 else ""
        raise IncompleteError(walk.faults[0] + more)


def _artifacts(
    content: BinaryIO, name: str, within: str, walk: _Walk, depth: int = 0
) -> Iterator[FoundPackage]:
    try:
        archive = _survey(content, walk)
    except NoArchiveError:
        # Not all that ends so is one, and Java could not list it either.
        if name.lower().endswith(ARTIFACTS):
            raise
        return
    if name.lower().endswith(ARTIFACTS):
        yield from _identity(content, archive, name, within, walk.budget)
    for member in archive.nested:
        inside = f"{within}/{member.name}" if within else member.name
        try:
            if depth == MAX_DEPTH:
                raise IncompleteError(f"archives lie more than {MAX_DEPTH} deep in each other")
            data = inflate(content, member, MAX_NESTED_BYTES >> depth, walk.budget)
            yield from _artifacts(data, member.name.rpartition("/")[2], inside, walk, depth + 1)
        except IncompleteError as error:
            if walk.budget.spent:
                raise
            walk.faults.append(f"{inside[-100:]!a}: {error.reason}")


def _survey(content: BinaryIO, walk: _Walk) -> _Archive:
    archive = _Archive()
    claimed = 0
    for member in members(content, walk.budget):
        claimed += member.size
        if found := _pom.fullmatch(member.name):
            archive.poms.setdefault((found[1], found[2]), {})[found[3]] = member
        elif member.name == MANIFEST:
            archive.manifest = member
        elif member.name.lower().endswith(ARCHIVES):
            walk.budget.take_archive()
            archive.nested.append(member)
        if len(archive.poms) > MAX_ARTIFACTS:
            raise IncompleteError(f"it names more than {MAX_ARTIFACTS} artifacts")
    if claimed > MAX_CLAIMED_BYTES:
        walk.faults.append(f"its entries claim to inflate to {claimed // 2**20} MiB")
    return archive


def _identity(
    content: BinaryIO, archive: _Archive, name: str, within: str, budget: Budget
) -> Iterator[FoundPackage]:
    stem = name.rpartition(".")[0]
    versioned = _versioned.fullmatch(stem)
    named, numbered = versioned.groups() if versioned else (stem, "")
    for (group, artifact), pom in archive.poms.items():
        properties = pom.get("properties")
        said = _properties(inflate(content, properties, MAX_TEXT_BYTES, budget).read()) if properties else {}
        version = said.get("version", numbered if named == artifact else "")
        licences = pom_licences(_if_readable(content, pom.get("xml"), budget))
        if not licences and artifact == named:
            manifest = _manifest(_if_readable(content, archive.manifest, budget))
            licences = bundle_licences(manifest.get("bundle-license", ""))
        yield _package(
            said.get("groupId", group), said.get("artifactId", artifact), version, within, licences
        )
    # An artifact that was merged into another is not what the file's name says.
    if archive.poms and (not numbered or any(artifact == named for _, artifact in archive.poms)):
        return
    said = (
        _manifest(inflate(content, archive.manifest, MAX_TEXT_BYTES, budget).read())
        if archive.manifest
        else {}
    )
    version = numbered or said.get("implementation-version", said.get("bundle-version", ""))
    vendor = said.get("implementation-vendor-id", "")
    # Most that say no version are an application's own.
    if named and is_word(version):
        group = vendor if _group.fullmatch(vendor) else ""
        yield _package(group, named, version, within, bundle_licences(said.get("bundle-license", "")))


def _package(group: str, artifact: str, version: str, within: str, licences: tuple[str, ...]) -> FoundPackage:
    name = f"{group}:{artifact}" if group else artifact
    version = version if is_word(version) else ""
    return FoundPackage(kind="java", name=name, version=version, licences=licences, path=within)


def _if_readable(content: BinaryIO, member: Member | None, budget: Budget) -> bytes:
    """The bytes of what only tells of licences. Where they cannot be read, none is known, and what was found
    is whole all the same.

    Raises:
        IncompleteError: the budget of the file is spent.
    """
    try:
        return inflate(content, member, MAX_TEXT_BYTES, budget).read() if member else b""
    except IncompleteError:
        if budget.spent:
            raise
        return b""


def _properties(data: bytes) -> dict[str, str]:
    pairs = (line.partition("=") for line in data.decode("utf-8", "replace").splitlines() if line[:1] != "#")
    return {name.strip(): value.strip() for name, equals, value in pairs if equals and value.strip()}


def _manifest(data: bytes) -> dict[str, str]:
    """Its main section; a line that goes on begins with a blank."""
    text = data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    main = text.partition("\n\n")[0].replace("\n ", "")
    pairs = (line.partition(":") for line in main.split("\n"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


JAVA = Reader("java", 2, wants, read)
