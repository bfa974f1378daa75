"""What advisories say of the packages of one image, as people and programs read it: from rows, by pages."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, literal, or_, select, tuple_

from registry.advisories.matching import State
from registry.advisories.values import Kind
from registry.contract.scan import WORST_FIRST, Severity
from registry.db.matchings import component_findings
from registry.db.scans import components, image_scans, scan_components, scans
from registry.db.types import Bytewise, Id
from registry.errors import NotFoundError, RequestInvalidError

if TYPE_CHECKING:
    from registry.content.manifests import StoredManifest
    from registry.db.engine import Database

_POSITION = re.compile(r"([0-9])\.([0-9]{1,18})\.(.{1,500})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Vulnerability:
    """One match of one package; ``state`` is ``unknown`` where nobody can say whether it holds.

    ``layer`` is the first that brought the package, from 0 on, and ``created_by`` that layer's line of the
    history. ``from_base``: whether that layer is one of the image's base; null: no base is known, or no
    layer. ``first_seen_at`` is since when this registry knows of it.
    """

    id: str
    aliases: Sequence[str]
    kind: Kind
    severity: Severity
    score: float | None
    state: State
    ecosystem: str
    package: str
    version: str
    source: str
    source_version: str
    fixed_version: str | None
    kev: bool
    epss: float | None
    layer: int | None
    created_by: str | None
    from_base: bool | None
    summary: str
    published_at: datetime | None
    first_seen_at: datetime


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which of them: of this ``severity`` or a worse one, and those of an unknown one; ``fixable``: with a
    version that mends it, or without one; of this ``kind``; ``from_base``: only what came with the base, or
    only what did not. ``None``: whatever it is."""

    severity: Severity | None = None
    fixable: bool | None = None
    kind: Kind | None = None
    from_base: bool | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A vulnerability, and where the page after it begins."""

    vulnerability: Vulnerability
    position: str


async def list_vulnerabilities(
    database: Database,
    manifest: StoredManifest,
    *,
    base_layers: int | None,
    wanted: Wanted,
    limit: int,
    after: str | None,
) -> Sequence[Listed]:
    """Those of an image, by its newest scan, the worst first; at most ``limit`` of those after a position.
    So many of its lowest layers are its base's; ``None``: nobody knows, and all may be its own.

    Raises:
        NotFoundError: it was not scanned; of an index, which is scanned by its platforms, nothing ever is.
        RequestInvalidError: the position is none.
    """
    scan = (
        select(scans.c.id, scans.c.layers)
        .join(image_scans, image_scans.c.scan_id == scans.c.id)
        .where(image_scans.c.manifest_id == manifest.id)
    )
    async with database.read_once() as connection:
        found = (await connection.execute(scan)).first()
    if found is None:
        raise NotFoundError(f"there is no scan of {manifest.digest} itself")
    return await list_in_scan(
        database, found.id, found.layers, base_layers=base_layers, wanted=wanted, limit=limit, after=after
    )


async def list_in_scan(
    database: Database,
    scan_id: int,
    layers: str | None,
    *,
    base_layers: int | None,
    wanted: Wanted,
    limit: int,
    after: str | None,
) -> Sequence[Listed]:
    """As :func:`list_vulnerabilities`, of a scan whose row is known; ``layers`` are those of the row.

    Raises:
        RequestInvalidError: the position is none.
    """
    key = tuple_(_RANK, component_findings.c.advisory, components.c.id)
    query = (
        select(*_COLUMNS)
        .select_from(scan_components)
        .join(components, components.c.id == scan_components.c.component_id)
        .join(component_findings, component_findings.c.component_id == components.c.id)
        .where(
            scan_components.c.scan_id == scan_id,
            scan_components.c.owned.is_(False),
            *_filters(wanted, base_layers),
        )
        .order_by(*key.clauses)
        .limit(limit)
    )
    if after is not None:
        query = query.where(key > _parse_position(after))
    lines = json.loads(layers or "[]")
    async with database.read_once() as connection:
        return [_listed(row._asdict(), lines, base_layers) for row in await connection.execute(query)]


def _listed(values: dict[str, Any], layers: Sequence[str], base_layers: int | None) -> Listed:
    rank, component_id = values.pop("rank"), values.pop("component_id")
    layer = values["layer"]
    created_by = layers[layer] if layer is not None and layer < len(layers) else None
    vulnerability = Vulnerability(
        **{**values, "aliases": json.loads(values["aliases"])},
        created_by=created_by,
        from_base=None if layer is None or base_layers is None else layer < base_layers,
    )
    return Listed(vulnerability, f"{rank}.{component_id}.{vulnerability.id}")


def _filters(wanted: Wanted, base_layers: int | None) -> list[Any]:
    filters: list[Any] = []
    if wanted.severity is not None:
        worse = WORST_FIRST[: WORST_FIRST.index(wanted.severity) + 1]
        filters.append(component_findings.c.severity.in_({*worse, "unknown"}))
    if wanted.fixable is not None:
        is_fixed = component_findings.c.fixed_version.is_not(None)
        filters.append(is_fixed if wanted.fixable else ~is_fixed)
    if wanted.kind is not None:
        filters.append(component_findings.c.kind == wanted.kind)
    if wanted.from_base is not None:
        layer, layers = scan_components.c.layer, base_layers or 0
        filters.append(layer < layers if wanted.from_base else or_(layer.is_(None), layer >= layers))
    return filters


def _parse_position(text: str) -> Any:
    match = _POSITION.fullmatch(text)
    if match is None or "\0" in text:
        raise RequestInvalidError(f"{text[:80]!r} is no cursor of this list")
    return tuple_(literal(int(match[1])), literal(match[3], Bytewise), literal(int(match[2]), Id))


_RANK = case(
    {severity: rank for rank, severity in enumerate(WORST_FIRST)},
    value=component_findings.c.severity,
    else_=len(WORST_FIRST),
)
_COLUMNS = (
    component_findings.c.advisory.label("id"),
    *(
        component_findings.c[name]
        for name in Vulnerability.__dataclass_fields__
        if name in component_findings.c
    ),
    components.c.name.label("package"),
    *(components.c[name] for name in ("ecosystem", "version", "source", "source_version")),
    components.c.id.label("component_id"),
    scan_components.c.layer,
    _RANK.label("rank"),
)
