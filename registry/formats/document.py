"""The document of a report: all that is known of an image, as JSON of our own; and read again."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from registry.advisories.file import Source
from registry.advisories.report import Excused, Report
from registry.formats.purls import purls_of
from registry.formats.shown import dumped


def document(known: Report, image: str) -> bytes:
    """The document: that of the scan, with ``vulnerabilities`` and what else is known."""
    return dumped(as_json(known, image))


def as_json(known: Report, image: str) -> dict[str, Any]:
    """The document as values of JSON."""
    scan = known.scan
    purls = purls_of(scan)
    excuses = known.excuses()
    base = known.base
    vulnerabilities = []
    for one in known.matches:
        package = scan.packages[one.package_index]
        excused = excuses.get((one.id, one.package_index))
        vulnerabilities.append(
            {
                **asdict(one),
                "published_at": _time(one.published_at),
                "package": package.name,
                "version": package.version,
                "purl": purls[one.package_index],
                "path": package.path,
                "layer": package.layer,
                "created_by": scan.layers[package.layer].created_by,
                "from_base": None if base is None else base.brought(package.layer),
                "excused": None if excused is None else _excused(excused),
            }
        )
    return {
        "image": image,
        "scanned_at": _time(known.scanned_at),
        **scan.model_dump(mode="json", exclude={"lease"}),
        "complete": scan.is_complete(),
        "base": None if base is None else asdict(base),
        "advisories": None
        if known.advisories is None
        else {
            "generation": known.advisories.generation,
            "as_of": _time(known.advisories_as_of),
            "sources": [_source(source) for source in known.advisories.sources],
            "not_looked_up": dict(known.not_looked_up),
        },
        "vulnerabilities": vulnerabilities,
        "notes": list(known.notes),
    }


def _source(source: Source) -> dict[str, object]:
    return {"name": source.name, "as_of": _time(source.as_of), "records": source.records}


def _excused(one: Excused) -> dict[str, object]:
    said = asdict(one)
    del said["id"], said["package_index"]
    return {**said, "expires_at": _time(one.expires_at)}


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
