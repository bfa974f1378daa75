"""Which images below a manifest can be run: the manifest itself, or an index's children at any depth."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.content import blobs
from registry.content.effects import ManifestPushed
from registry.db.content import edges, manifests
from registry.db.dialect import batches
from registry.oci.descriptor import ATTESTATION_ANNOTATION, Descriptor
from registry.oci.digest import parse_digest
from registry.oci.mediatypes import INDEXES, MANIFESTS, is_foreign_layer

MAX_DEPTH = 5
MAX_IMAGES = 256
MAX_LISTED = 20_000
_LISTED_AS_MANIFEST = MANIFESTS | INDEXES


class _Listed(IntEnum):
    """As what an index lists content; of several, the one that asks for most counts."""

    PERHAPS_ELSEWHERE = 0
    ANYTHING = 1
    MANIFEST = 2


@dataclass(frozen=True, slots=True, order=True)
class RunnableImage:
    """One image manifest, and the platform that its config states."""

    digest: str
    platform: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """The ``images`` below a manifest in a fixed order, and what it is made of that is ``missing``.

    ``excess`` says where it goes beyond the limits; what else there is was then not looked at. ``listed`` is
    how many entries were.
    """

    images: tuple[RunnableImage, ...] = ()
    missing: tuple[str, ...] = ()
    excess: str = ""
    listed: int = 0

    @property
    def untriable(self) -> tuple[str, str] | None:
        """The state, and its reason, of what cannot be tried; ``None`` where it can.

        A platform that is missing may be the worst of all, so an index without it is not known to be good.
        """
        if self.excess:
            return "error", self.excess
        if self.missing:
            more = f" and {len(self.missing) - 1} more" if len(self.missing) > 1 else ""
            return "untried", f"{self.missing[0]}{more}, which it is made of, is not in the repository"
        if not self.images:
            return "not-applicable", "nothing in it can be run"
        return None


@dataclass(frozen=True, slots=True)
class _Stored:
    id: int
    digest: str
    runnable: bool
    platform: str | None
    media_type: str


async def images_of_push(connection: AsyncConnection, pushed: ManifestPushed) -> Inventory:
    """What a push brings."""
    if not pushed.manifest.is_index:
        if pushed.platform is None:
            return Inventory()
        if pushed.missing:
            return Inventory(missing=tuple(sorted(map(str, pushed.missing))))
        return Inventory((RunnableImage(str(pushed.digest), pushed.platform),))
    children = pushed.manifest.children
    attesting = {str(child.digest) for child in children if _is_attestation(child)}
    listed = _listed((str(child.digest), child.media_type) for child in children)
    return await _below(connection, pushed.repository_id, listed, besides=attesting)


async def images_of_stored(connection: AsyncConnection, repository_id: int, digest: str) -> Inventory:
    """The same for a manifest that the repository holds already."""
    return await _below(connection, repository_id, {digest: _Listed.MANIFEST}, besides=frozenset())


async def _below(
    connection: AsyncConnection,
    repository_id: int,
    level: Mapping[str, _Listed],
    *,
    besides: Collection[str],
) -> Inventory:
    """Walk down from ``level``: digests, and as what each is listed. Images among ``besides`` are not to be
    tried."""
    found: set[RunnableImage] = set()
    missing: set[str] = set()
    seen: set[str] = set()
    for _ in range(MAX_DEPTH):
        level = {digest: listed for digest, listed in level.items() if digest not in seen}
        if not level:
            return Inventory(tuple(sorted(found)), tuple(sorted(missing)), listed=len(seen))
        seen |= level.keys()
        if len(seen) > MAX_LISTED:
            excess = f"the index and those it lists have more than {MAX_LISTED} entries"
            return Inventory(excess=excess, listed=len(seen))
        rows = await _stored(connection, repository_id, level.keys())
        missing |= await _absent(connection, repository_id, level, {row.digest for row in rows})
        found |= {
            RunnableImage(row.digest, row.platform)
            for row in rows
            if row.runnable and row.platform is not None and row.digest not in besides
        }
        if len(found) > MAX_IMAGES:
            excess = f"the index has more than {MAX_IMAGES} images that can be run"
            return Inventory(excess=excess, listed=len(seen))
        level = await _children(connection, [row.id for row in rows if row.media_type in INDEXES])
    excess = f"the index lists indexes more than {MAX_DEPTH} levels deep"
    return Inventory(excess=excess, listed=len(seen))


async def _stored(connection: AsyncConnection, repository_id: int, digests: Collection[str]) -> list[_Stored]:
    query = select(
        manifests.c.id, manifests.c.digest, manifests.c.runnable, manifests.c.platform, manifests.c.media_type
    ).where(manifests.c.repository_id == repository_id)
    rows: list[_Stored] = []
    for batch in batches(sorted(digests)):
        found = await connection.execute(query.where(manifests.c.digest.in_(batch)))
        rows += [_Stored(*row) for row in found]
    return rows


async def _absent(
    connection: AsyncConnection, repository_id: int, level: Mapping[str, _Listed], held: Collection[str]
) -> set[str]:
    """What of a level the repository does not have; what is not listed as a manifest may be a blob."""
    absent = {digest: listed for digest, listed in level.items() if listed and digest not in held}
    perhaps_blobs = {parse_digest(digest) for digest, listed in absent.items() if listed < _Listed.MANIFEST}
    layers = await blobs.find_all(connection, repository_id, perhaps_blobs) if perhaps_blobs else {}
    return absent.keys() - set(map(str, layers))


async def _children(connection: AsyncConnection, manifest_ids: list[int]) -> dict[str, _Listed]:
    if not manifest_ids:
        return {}
    # An index may list the same ten thousand times.
    query = select(edges.c.digest, edges.c.media_type).distinct()
    query = query.where(edges.c.kind == "child", edges.c.manifest_id.in_(manifest_ids))
    rows = await connection.execute(query.limit(MAX_LISTED + 1))
    return _listed((row.digest, row.media_type) for row in rows)


def _listed(children: Iterable[tuple[str, str]]) -> dict[str, _Listed]:
    """Digests of children, and as what each is listed."""
    listed: dict[str, _Listed] = {}
    for digest, media_type in children:
        kind = _Listed.MANIFEST if media_type in _LISTED_AS_MANIFEST else _Listed.ANYTHING
        if is_foreign_layer(media_type):
            # Not to be missed, but clients that go by what the registry answers run it where it is an image.
            kind = _Listed.PERHAPS_ELSEWHERE
        listed[digest] = max(kind, listed.get(digest, kind))
    return listed


def _is_attestation(child: Descriptor) -> bool:
    # Both marks: a mark that a client does not look at must not hide an image that it would run.
    return (
        ATTESTATION_ANNOTATION in child.annotations and child.platform is not None and child.platform.unknown
    )
