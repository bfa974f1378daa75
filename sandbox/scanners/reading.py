"""Facts as they were written, read back. The writer has read hostile bytes: what is not as it should be is
left out. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast, get_args

from sandbox.scanners.facts import (
    FoundPackage,
    FoundSystem,
    FoundThing,
    PackageKind,
    Severity,
    ThingKind,
)

_LICENCES_MAX = 50
_DIGESTS_MAX = 3


def read_packages(value: object) -> tuple[FoundPackage, ...]:
    """The packages of one file."""
    return tuple(found for one in _objects(value) if (found := _package(one)) is not None)


def read_system(value: object) -> FoundSystem | None:
    """The system that one file names."""
    for one in _objects([value]):
        return FoundSystem(_text(one, "id"), _text(one, "version"), _text(one, "name"))
    return None


def read_things(value: object) -> tuple[FoundThing, ...]:
    """What is wrong with one file."""
    return tuple(found for one in _objects(value) if (found := _thing(one)) is not None)


def _package(one: Mapping[str, object]) -> FoundPackage | None:
    kind = one.get("kind")
    if kind not in get_args(PackageKind):
        return None
    return FoundPackage(
        kind=cast("PackageKind", kind),
        name=_text(one, "name"),
        version=_text(one, "version"),
        architecture=_text(one, "architecture"),
        source=_text(one, "source"),
        source_version=_text(one, "source_version"),
        licences=_texts(one, "licences", _LICENCES_MAX),
        path=_text(one, "path"),
    )


def _thing(one: Mapping[str, object]) -> FoundThing | None:
    kind, severity, line = one.get("kind"), one.get("severity"), one.get("line")
    if kind not in get_args(ThingKind) or severity not in get_args(Severity):
        return None
    return FoundThing(
        kind=cast("ThingKind", kind),
        rule=_text(one, "rule"),
        severity=cast("Severity", severity),
        title=_text(one, "title"),
        remedy=_text(one, "remedy"),
        line=line if isinstance(line, int) and line > 0 else None,
        evidence=_text(one, "evidence"),
        path=_text(one, "path"),
        digests=_texts(one, "digests", _DIGESTS_MAX),
    )


def _objects(value: object) -> list[Mapping[str, object]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _texts(one: Mapping[str, object], name: str, most: int) -> tuple[str, ...]:
    value = one.get(name)
    return tuple(text for text in value if isinstance(text, str))[:most] if isinstance(value, list) else ()


def _text(one: Mapping[str, object], name: str) -> str:
    value = one.get(name)
    return value if isinstance(value, str) else ""
