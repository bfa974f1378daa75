"""Small records of our own, of every form that importers and matching know, and a file made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.advisories.building import build
from registry.advisories.file import Advisories, open_advisories
from registry.advisories.osv import read_record
from registry.advisories.staging import Counted, Incoming
from registry.advisories.values import Item

CVSS2 = "AV:N/AC:L/Au:N/C:P/I:P/A:P"
CVSS3 = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
CVSS4 = "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:L/VI:N/VA:N/SC:N/SI:N/SA:N"
AS_OF = "2026-11-24T00:00:00+00:00"


@dataclass(frozen=True, slots=True)
class Thing:
    """What matching needs of a package."""

    ecosystem: str
    name: str
    version: str
    source: str | None = None
    source_version: str | None = None
    owned_by: str | None = None


def affects(ecosystem: str, name: str, *events: str, **more: Any) -> dict[str, Any]:
    """One ``affected`` with a range of ``events`` as in ``introduced=0``, and what else it has."""
    pairs = [dict([event.split("=", 1)]) for event in events]
    ranges = [{"type": "ECOSYSTEM", "events": pairs}] if events else []
    return {"package": {"ecosystem": ecosystem, "name": name}, "ranges": ranges, **more}


def record(id_: str, *affected: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A record of OSV."""
    usual = {"schema_version": "1.6.0", "id": id_, "modified": "2026-01-02T03:04:05Z"}
    return usual | {"affected": [*affected]} | more


def taken(records: Iterable[object]) -> Iterable[Item]:
    """What the importer makes of records."""
    for number, one in enumerate(records):
        yield from read_record(one, where=f"record {number}")


def incoming(name: str, *records: object, fixed_only: bool = False, as_of: str = AS_OF) -> Incoming:
    """A source of records."""
    return Incoming(name, "osv", f"{name}.zip", as_of, "CC0-1.0", fixed_only, taken(records))


def filed(path: Path, *records: object) -> tuple[Advisories, Counted]:
    """A file with one source, open, and what came of it."""
    counted = build(path, [incoming("own", *records)])
    return open_advisories(path), counted["own"]
