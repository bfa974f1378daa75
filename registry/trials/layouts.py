"""A repository as an image layout: what its index lists, which is what the reader may read."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from registry.content import manifests as manifest_use
from registry.content.manifests import StoredManifest
from registry.db.content import STATE_COLUMNS, edges, manifests, tags
from registry.db.dialect import batches
from registry.errors import ContentTooLargeError
from registry.layouts.writing import JsonEntry
from registry.oci.digest import parse_digest
from registry.oci.layout import REF_NAME
from registry.oci.mediatypes import IMAGE_CONFIGS
from registry.trials.asking import ask
from registry.trials.gate import Admit, AdmitEarlier, AdmitWithWarning

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from registry.trials.asking import Reading

ENTRIES_MAX = 2000
"""Each of them is asked about at the gate."""
CONTENT_MAX = 50_000

_COLUMNS = (
    manifests.c.id,
    manifests.c.repository_id,
    manifests.c.digest,
    manifests.c.media_type,
    manifests.c.runnable,
    manifests.c.platform,
    manifests.c.subject_digest,
    *STATE_COLUMNS,
    manifests.c.size,
    manifests.c.artifact_type,
)


@dataclass(slots=True)
class Listed:
    """``entries`` as an ``index.json`` has them; ``until`` they hold while no epoch moves
    (:func:`time.monotonic`)."""

    entries: list[JsonEntry] = field(default_factory=list)
    until: float = inf

    def add(self, entry: JsonEntry) -> None:
        """One more.

        Raises:
            ContentTooLargeError: there are too many.
        """
        if len(self.entries) >= ENTRIES_MAX:
            raise ContentTooLargeError(
                f"more than {ENTRIES_MAX} images and referrers are too many for one index.json; "
                "seatrial export writes a layout of those that you name"
            )
        self.entries.append(entry)

    @property
    def digests(self) -> list[str]:
        """What is listed, each once."""
        return list(dict.fromkeys(str(one["digest"]) for one in self.entries))


async def list_entries(reading: Reading) -> Listed:
    """All tags that the gate lets this reader have, and then what refers to those images. Of a tag that is
    held it is the last admitted image, as everywhere.

    Raises:
        ContentTooLargeError: there are too many.
    """
    listed = Listed()
    query = (
        select(tags.c.name, *_COLUMNS)
        .join(manifests, manifests.c.id == tags.c.manifest_id)
        .where(tags.c.repository_id == reading.repository.id)
        .order_by(tags.c.name)
        .limit(ENTRIES_MAX + 1)
    )
    async with reading.database.read_once() as connection:
        rows = (await connection.execute(query)).all()
    # Where tags are not held it is the image that counts, whatever its names are.
    held, known = reading.repository.gate == "hold", dict[int, JsonEntry | None]()
    for row in rows:
        if held or row.id not in known:
            known[row.id] = await _admitted(reading, row, listed, tag=row.name)
        entry = known[row.id]
        if entry is not None:
            listed.add(entry | {"annotations": {REF_NAME: row.name}})
    await _add_referrers(reading, listed)
    return listed


async def content_of(reading: Reading, digests: Collection[str]) -> list[str]:
    """The digests of all that these manifests are made of, and their own.

    Raises:
        ContentTooLargeError: there are too many.
    """
    found = dict.fromkeys(digests)
    query = (
        select(edges.c.digest)
        .join(manifests, manifests.c.id == edges.c.manifest_id)
        .where(manifests.c.repository_id == reading.repository.id)
    )
    left = list(found)
    while left:
        named: list[str] = []
        async with reading.database.read_once() as connection:
            for batch in batches(left):
                named += (await connection.execute(query.where(manifests.c.digest.in_(batch)))).scalars()
        left = [digest for digest in dict.fromkeys(named) if digest not in found]
        found |= dict.fromkeys(left)
        if len(found) > CONTENT_MAX:
            raise ContentTooLargeError(f"more than {CONTENT_MAX} blobs are too many for one page")
    return sorted(found)


async def _add_referrers(reading: Reading, listed: Listed) -> None:
    seen = set(listed.digests)
    left = listed.digests
    while left:
        rows: list[Any] = []
        for batch in batches(left):
            query = (
                select(*_COLUMNS)
                .where(
                    manifests.c.repository_id == reading.repository.id, manifests.c.subject_digest.in_(batch)
                )
                .order_by(manifests.c.id)
                .limit(ENTRIES_MAX + 1)
            )
            async with reading.database.read_once() as connection:
                rows += (await connection.execute(query)).all()
        left = []
        for row in rows:
            if row.digest not in seen and (entry := await _admitted(reading, row, listed)) is not None:
                seen.add(row.digest)
                left.append(row.digest)
                listed.add(entry)


async def _admitted(
    reading: Reading, row: Any, listed: Listed, *, tag: str | None = None
) -> JsonEntry | None:
    """The entry of what may be read of this; ``None``: nothing now."""
    manifest = _stored(row)
    answer = await ask(reading, manifest, manifest, tag=tag)
    listed.until = min(listed.until, answer.until)
    match answer.decision:
        case Admit() | AdmitWithWarning():
            return dict(_entry(manifest, row.size, row.artifact_type))
        case AdmitEarlier():
            digest = parse_digest(answer.question.earlier)
            earlier = await manifest_use.get(reading.database, reading.repository, digest)
            return dict(_entry(earlier, len(earlier.raw), None))
        case _:
            return None


def _stored(row: Any) -> StoredManifest:
    names = StoredManifest.__dataclass_fields__.keys() - {"raw", "digest"}
    values = {name: getattr(row, name) for name in names}
    # The gate looks at no bytes, and thousands of manifests have many.
    return StoredManifest(**values, digest=parse_digest(row.digest), raw=b"")


def _entry(manifest: StoredManifest, size: int, artifact_type: str | None) -> Iterator[tuple[str, object]]:
    yield "mediaType", manifest.media_type
    yield "digest", str(manifest.digest)
    yield "size", size
    if artifact_type and artifact_type not in IMAGE_CONFIGS:
        yield "artifactType", artifact_type
