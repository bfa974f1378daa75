"""Blocks of packages: which packages of scans one names, and images refused when a scan comes to count.

Only code can compare versions. So which components a block names is written down: when the block is made, and
when a scan brings new ones. What it refuses then is a question of rows, as with every block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, or_, select

from registry.advisories.ecosystems import fold, order_of
from registry.advisories.ranges import VersionRange, parse_range
from registry.content.blocks import catch_all
from registry.db.content import manifests
from registry.db.dialect import insert_ignoring_conflict, portions
from registry.db.engine import hold_epochs, move_epoch
from registry.db.gate import block_components, blocks
from registry.db.scans import components, scan_components, scans
from registry.errors import RequestInvalidError
from registry.trials.attesting import attest_states

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection

TEXT_MAX = 200
_OPERATORS = "<>="


@dataclass(frozen=True, slots=True)
class PackageRange:
    """A package in some versions, or all: by its own name or that of its source. ``ecosystem`` without a
    release is each release of it."""

    ecosystem: str
    name: str
    within: VersionRange | None = None

    @property
    def versions(self) -> str:
        """The range; empty: all."""
        return "" if self.within is None else str(self.within)

    def __str__(self) -> str:
        return f"{self.ecosystem}/{self.name}{self.versions}"

    def names(self, ecosystem: str, name: str, version: str, *, source: str, source_version: str) -> bool:
        """Whether it is this package; a version that nobody can compare may be in the range, and counts."""
        if ecosystem != self.ecosystem and not ecosystem.startswith(f"{self.ecosystem}:"):
            return False
        wanted = fold(self.ecosystem, self.name)
        held = [
            each
            for called, each in ((name, version), (source, source_version))
            if fold(ecosystem, called) == wanted
        ]
        if not held:
            return False
        return self.within is None or self.within.holds(ecosystem, held[0]) is not False


def parse_package(text: str) -> PackageRange:
    """Read ``ECOSYSTEM/NAME`` with or without a range behind it, as ``npm/lodash<4.17.21``.

    Raises:
        RequestInvalidError: it is none.
    """
    if len(text) > TEXT_MAX or not text.isprintable():
        raise RequestInvalidError(f"package: a line of at most {TEXT_MAX} characters")
    ecosystem, _, rest = text.partition("/")
    end = min((at for at in map(rest.find, _OPERATORS) if at >= 0), default=len(rest))
    name = rest[:end].strip()
    if not ecosystem or not name:
        raise RequestInvalidError(
            f"package: {text!r} is not ECOSYSTEM/NAME, as Debian:12/openssl or npm/lodash<4"
        )
    if order_of(ecosystem) is None:
        raise RequestInvalidError(
            f"package: there is no ecosystem {ecosystem!r}; some are Debian:12, Alpine:v3.19, PyPI, npm, Go"
        )
    if end == len(rest):
        return PackageRange(ecosystem, name)
    try:
        within = parse_range(rest[end:])
    except ValueError as error:
        raise RequestInvalidError(f"package: {error}") from None
    for _, version in within.bounds:
        if VersionRange((("=", version),)).holds(ecosystem, version) is None:
            raise RequestInvalidError(f"package: {version!r} is no version of {ecosystem}")
    return PackageRange(ecosystem, name, within)


async def link(connection: AsyncConnection, block_id: int) -> None:
    """Write down which of the components that there are a block of a package names."""
    await _link(connection, blocks.c.id == block_id)


async def hold_scans_of(connection: AsyncConnection, block_id: int) -> None:
    """Wait for who takes over a scan that found what a block names, and let nobody do so before this
    transaction ends. The caller holds the repositories that it locks already."""
    found = (
        select(scan_components.c.scan_id)
        .join(block_components, block_components.c.component_id == scan_components.c.component_id)
        .where(block_components.c.block_id == block_id)
    )
    held = select(scans.c.id).where(scans.c.id.in_(found)).order_by(scans.c.document_digest)
    await connection.execute(held.with_for_update())


async def catch_scanned(connection: AsyncConnection, manifest_id: int, scan_id: int) -> None:
    """Refuse an image for which a scan, which may be new, counts from this transaction on, if it holds what
    is blocked. The caller holds the repository's lock, and takes no other one.

    Whoever blocks at the same time meets this at the row of the epochs: the one or the other sees both.
    """
    await hold_epochs(connection)
    if await _is_any(connection):
        held = select(scan_components.c.component_id).where(scan_components.c.scan_id == scan_id)
        await _link(connection, components.c.id.in_(held))
        await _catch(connection, [manifest_id])


async def catch_carried(connection: AsyncConnection, manifest_ids: Sequence[int]) -> None:
    """Refuse images for which scans count from this transaction on, if they hold what is blocked. The caller
    holds the repositories' locks, and the scans: there whoever blocks at the same time meets this."""
    if manifest_ids and await _is_any(connection):
        await _catch(connection, manifest_ids)


async def _is_any(connection: AsyncConnection) -> bool:
    query = select(blocks.c.id).where(blocks.c.package.is_not(None)).limit(1)
    return (await connection.execute(query)).first() is not None


async def _catch(connection: AsyncConnection, manifest_ids: Sequence[int]) -> None:
    if await catch_all(connection, manifests.c.id.in_(manifest_ids), attest_states):
        await move_epoch(connection, "gate")


async def _link(connection: AsyncConnection, which: ColumnElement[bool]) -> None:
    pairs = []
    for alike in _ALIKE:
        for row in await connection.execute(
            _CANDIDATES.select_from(components.join(blocks, alike)).where(which)
        ):
            within = parse_range(row.versions) if row.versions else None
            if PackageRange(row.wanted, row.package, within).names(
                row.ecosystem, row.name, row.version, source=row.source, source_version=row.source_version
            ):
                pairs.append({"block_id": row.block_id, "component_id": row.component_id})
    for some in portions(pairs):
        await connection.execute(insert_ignoring_conflict(connection, block_components, list(some)))


_CANDIDATES = select(
    blocks.c.id.label("block_id"),
    blocks.c.ecosystem.label("wanted"),
    blocks.c.package,
    blocks.c.versions,
    components.c.id.label("component_id"),
    *(components.c[name] for name in ("ecosystem", "name", "version", "source", "source_version")),
).where(blocks.c.package.is_not(None))
_ALIKE = (
    or_(blocks.c.package == components.c.name, blocks.c.package == components.c.source),
    # Of Python a package has several spellings.
    and_(blocks.c.ecosystem == "PyPI", components.c.ecosystem == "PyPI"),
)
"""How an index finds what may be meant."""
