"""From what an operator hands over to sources: which format it is in, what it is called, how old it is."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from registry.advisories.distributions import (
    alpine_secdb,
    changelog,
    changelog_of_deb,
    debian_bulletins,
    debian_tracker,
)
from registry.advisories.ecosystems import order_of
from registry.advisories.facts import Fact, Facts
from registry.advisories.lists import exploited, likelihoods
from registry.advisories.osv import read_record
from registry.advisories.reading import Advance, Document, changed_at, documents
from registry.advisories.staging import Incoming
from registry.advisories.values import Item, Skip
from registry.errors import RequestInvalidError

Format = Literal["osv", "debian-tracker", "debian-bulletins", "changelogs", "alpine", "kev", "epss"]
FIXED_ONLY: frozenset[Format] = frozenset({"debian-bulletins", "changelogs", "alpine"})
"""Formats that tell of nothing that is not fixed yet: a 0 from them is not "no vulnerabilities"."""

_MAX_BEFORE = 100_000
"""After so many documents of no kind that is known it is given up."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:+-]{0,99}")
_PLAIN_NAMES = frozenset({"all", "list", "data", "json", "download"})
_BULLETIN = re.compile(r"(?m)\A\s*\[\d\d \w{3} \d{4}\] D[SL]A-")
_CHANGELOG = re.compile(r"\A\s*[a-z0-9][a-z0-9+.-]* \([^)\s]+\) [^;\n]+;")
_SCORED_AT = re.compile(r"score_date:(\d{4}-\d\d-\d\d)")


@dataclass(frozen=True, slots=True)
class Given:
    """What is to be imported, and what was said about it; empty is not said."""

    path: Path
    origin: str = ""
    name: str = ""
    licence: str = ""
    as_of: datetime | None = None
    ecosystem: str = ""


def spread(given: Given) -> list[Given]:
    """A folder with an archive for each ecosystem, ``PyPI/all.zip``, as the sources that it is."""
    if not given.path.is_dir():
        return [given]
    archives = sorted(given.path.glob("*/all.zip"))
    if archives and given.name:
        raise RequestInvalidError(f"{given.path} has {len(archives)} sources; one name is not enough")
    return [Given(one, "", "", given.licence, given.as_of, given.ecosystem) for one in archives] or [given]


def source_of(given: Given, advance: Advance) -> Incoming:
    """A source, read as it is taken.

    Raises:
        NotFoundError: there is nothing there.
        RequestInvalidError: it cannot be opened, holds nothing of a kind that is known, or its name is none.
    """
    if given.ecosystem and order_of(given.ecosystem) is None:
        raise RequestInvalidError(f"{given.ecosystem} is no ecosystem whose versions are known here")
    entries = documents(given.path, advance)
    before: list[Skip] = []
    first: _Recognized | None = None
    for entry in entries:
        if isinstance(entry, Skip):
            before.append(entry)
        elif (first := _recognize(entry, before)) is not None:
            break
        if len(before) > _MAX_BEFORE:
            break
    if first is None:
        said = f": {before[0].where}: {before[0].reason}" if before else ""
        raise RequestInvalidError(f"{given.path} holds nothing of a kind that is known here{said}")
    name = given.name or _name(given.path, first.format)
    if not _NAME.fullmatch(name):
        raise RequestInvalidError(f"{name!r} is no name of a source: letters, digits, spaces and ._:+-")
    as_of = given.as_of or first.as_of or changed_at(given.path)
    return Incoming(
        name=name,
        format=first.format,
        origin=given.origin or str(given.path),
        as_of=as_of.astimezone(UTC).isoformat(timespec="seconds"),
        licence=given.licence,
        fixed_only=first.format in FIXED_ONLY,
        items=_items(first, before, entries, given.ecosystem or None),
    )


def _name(path: Path, format_: Format) -> str:
    if format_ in ("kev", "epss", "debian-tracker"):
        return format_
    stem = path.resolve().name.partition(".")[0] if path.is_file() else path.resolve().name
    label = path.resolve().parent.name if stem in _PLAIN_NAMES else stem
    return f"{format_}:{label}" if label else format_


@dataclass(frozen=True, slots=True)
class _Recognized:
    """A document whose format is known; ``as_of`` where it says so itself."""

    format: Format
    name: str
    value: Any
    as_of: datetime | None = None


def _recognize(document: Document, skipped: list[Skip]) -> _Recognized | None:
    """What a document is; what is none that is known is added to ``skipped``."""
    name, content = document.name, document.content
    if content.startswith(b"!<arch>\n"):
        try:
            text = changelog_of_deb(content)
        except ValueError:
            skipped.append(Skip(name, "a broken Debian package"))
            return None
        if text is None:
            skipped.append(Skip(name, "a package without a changelog"))
            return None
        return _Recognized("changelogs", name, text)
    text = content[:200].decode("utf-8", "replace")
    if _BULLETIN.match(text):
        return _Recognized("debian-bulletins", name, content.decode("utf-8", "replace"))
    if text.lstrip()[:1] in ("{", "["):
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            skipped.append(Skip(name, "broken JSON"))
            return None
        found = _of_json(name, value)
        if found is None:
            skipped.append(Skip(name, "JSON of another kind"))
        return found
    text = content.decode("utf-8", "replace")
    if text.startswith(("#model_version", "cve,epss")):
        match = _SCORED_AT.search(text[:200])
        return _Recognized("epss", name, text, _day(match[1]) if match else None)
    if _CHANGELOG.match(text):
        return _Recognized("changelogs", name, text)
    skipped.append(Skip(name, "no document of a kind that is known"))
    return None


def _of_json(name: str, value: object) -> _Recognized | None:
    if isinstance(value, list):
        return _Recognized("osv", name, value)
    assert isinstance(value, dict)
    if "catalogVersion" in value or ("vulnerabilities" in value and "id" not in value):
        released = value.get("dateReleased")
        return _Recognized("kev", name, value, _day(released[:10]) if isinstance(released, str) else None)
    if "distroversion" in value and "packages" in value:
        return _Recognized("alpine", name, value)
    if "id" in value or "affected" in value or "schema_version" in value:
        return _Recognized("osv", name, value)
    if any(
        isinstance(said, dict) and "releases" in said
        for package in itertools.islice(value.values(), 1000)
        if isinstance(package, dict)
        for said in package.values()
    ):
        return _Recognized("debian-tracker", name, value)
    return None


def _day(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        return None


def _items(
    first: _Recognized, before: list[Skip], rest: Iterable[Document | Skip], ecosystem: str | None
) -> Iterator[Item]:
    yield from before
    facts = Facts()
    for found in itertools.chain([first], _others(first.format, rest)):
        if isinstance(found, Skip):
            yield found
            continue
        for item in _READERS[found.format](found, ecosystem):
            if isinstance(item, Fact):
                facts.add(item)
            else:
                yield item
    yield from facts.advisories()


def _others(format_: Format, rest: Iterable[Document | Skip]) -> Iterator[_Recognized | Skip]:
    for entry in rest:
        if isinstance(entry, Skip):
            yield entry
            continue
        skipped: list[Skip] = []
        found = _recognize(entry, skipped)
        yield from skipped
        if found is not None:
            yield found if found.format == format_ else Skip(entry.name, f"not {format_}, as the first is")


def _osv(found: _Recognized, _: str | None) -> Iterator[Item]:
    records = found.value if isinstance(found.value, list) else [found.value]
    for number, record in enumerate(records):
        yield from read_record(record, where=found.name if len(records) == 1 else f"{found.name} {number}")


_READERS: Mapping[Format, Callable[[_Recognized, str | None], Iterator[Item | Fact]]] = {
    "osv": _osv,
    "debian-tracker": lambda found, _: debian_tracker(found.value),
    "debian-bulletins": lambda found, _: debian_bulletins(found.value),
    "changelogs": lambda found, ecosystem: changelog(found.value, found.name, ecosystem),
    "alpine": lambda found, _: alpine_secdb(found.value, found.name),
    "kev": lambda found, _: exploited(found.value, found.name),
    "epss": lambda found, _: likelihoods(found.value, found.name),
}
