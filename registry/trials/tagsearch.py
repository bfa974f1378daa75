"""Tags of a repository that are wanted: by name, age, digest, platform, label, state and signature, in an
order that an index has.

A page looks at a bounded number of tags, so that none costs more than another, whatever is asked for: where
few are found among them it is short, or empty, and still says where the next one begins.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import case, func, literal, select, tuple_

from registry.content.nameranges import NameRange
from registry.content.taghistory import cursor_of, parse_cursor
from registry.content.tagmatching import MatchKind, glob_prefix, parse_matcher
from registry.db.content import STATE_COLUMNS, edges, manifests, tags
from registry.db.dialect import among, portions
from registry.db.signatures import signatures
from registry.db.types import db_time
from registry.errors import RequestInvalidError
from registry.oci.mediatypes import INDEXES
from registry.oci.names import parse_tag
from registry.oci.platform import parse_platform
from registry.trials.states import effective_state

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.db.engine import Database

Order = Literal["name", "updated", "version"]
_LOOKED_AT = 500
_LISTED = manifests.alias("listed")
"""Made once: its columns cost more than a query."""
_OF_IMAGE = (
    manifests.c.id,
    manifests.c.digest,
    manifests.c.media_type,
    manifests.c.size,
    manifests.c.platform,
    *STATE_COLUMNS,
)
_ANNOTATIONS_MAX = 16_384
# Whoever pushes makes them as long as a manifest may be, and a page looks at hundreds.
_SAID = (
    case(
        (func.length(manifests.c.annotations) <= _ANNOTATIONS_MAX, manifests.c.annotations), else_="{}"
    ).label("annotations"),
    func.coalesce(manifests.c.labels, "{}").label("labels"),
)


@dataclass(frozen=True, slots=True)
class Label:
    """A label of an image's config, or an annotation of its manifest; ``value`` ``None``: whatever it is."""

    name: str
    value: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which tags; ``None`` asks for nothing. ``order``: by name; or the last moved, or the newest version
    first."""

    glob: str | None = None
    regex: str | None = None
    semver: str | None = None
    digest: str | None = None
    platform: str | None = None
    label: Label | None = None
    state: str | None = None
    signed: bool | None = None
    updated_since: datetime | None = None
    updated_before: datetime | None = None
    order: Order = "name"

    @property
    def takes_all(self) -> bool:
        """Whether each tag that the database reads for it is one."""
        return self in (Wanted(order=self.order), Wanted(order=self.order, digest=self.digest))


@dataclass(frozen=True, slots=True)
class FoundTag:
    """A tag, where it stands, since when and by whom; of the image its platforms, those of what an index
    lists, and its state."""

    name: str
    digest: str
    media_type: str
    size: int
    updated_at: datetime
    updated_by: str
    platforms: Sequence[str]
    state: str


def parse_label(text: str) -> Label:
    """``NAME`` or ``NAME=VALUE``.

    Raises:
        RequestInvalidError: without a name.
    """
    name, equals, value = text.partition("=")
    if not name:
        raise RequestInvalidError(f"{text[:80]!r} is no label: NAME, or NAME=VALUE")
    return Label(name, value if equals else None)


async def search(
    database: Database,
    repository_id: int,
    wanted: Wanted,
    *,
    limit: int,
    cursor: str | None,
    max_age: timedelta | None,
) -> tuple[list[FoundTag], str | None]:
    """At most ``limit`` of them, and the cursor of the next page, ``None`` after the last one. ``max_age`` is
    how long a good verdict holds.

    Raises:
        RequestInvalidError: a pattern, a platform or a cursor that is none.
    """
    kinds: tuple[tuple[MatchKind, str | None], ...] = (
        ("glob", wanted.glob),
        ("regex", wanted.regex),
        ("semver", wanted.semver),
    )
    named = [parse_matcher(kind, pattern) for kind, pattern in kinds if pattern is not None]
    if wanted.platform is not None:
        _require_platform(wanted.platform)
    image_id: int | None = None
    if wanted.digest is not None:
        image = select(manifests.c.id).where(
            manifests.c.repository_id == repository_id, manifests.c.digest == wanted.digest
        )
        async with database.read_once() as connection:
            image_id = (await connection.execute(image)).scalar_one_or_none()
        if image_id is None:
            return [], None
    query = _window(repository_id, wanted, cursor, image_id=image_id)
    if query is None:
        return [], None
    looked_at = limit + 1 if wanted.takes_all else _LOOKED_AT
    found: list[FoundTag] = []
    # Each by itself: of an image that goes in between there is no row.
    async with database.read_once() as connection:
        # By themselves: with what they name, PostgreSQL may take another way than along the index.
        rows = (await connection.execute(query.limit(looked_at))).all()
        kept = [row for row in rows if all(test(row.name) for test in named) and _is_of_time(row, wanted)]
        for portion in portions(kept):
            found += await _found(
                connection, repository_id, wanted, portion, max_age=max_age, is_sqlite=database.is_sqlite
            )
    if len(found) > limit:
        found = found[:limit]
        last = next(row for row in rows if row.name == found[-1].name)
        return found, _position(last, wanted.order)
    return found, _position(rows[-1], wanted.order) if len(rows) == looked_at else None


def _window(repository_id: int, wanted: Wanted, cursor: str | None, *, image_id: int | None) -> Any:
    query = select(tags.c.name, tags.c.updated_at, tags.c.updated_by, tags.c.version_key, tags.c.manifest_id)
    if image_id is None:
        query = query.where(tags.c.repository_id == repository_id)
    else:
        # Few tags name one image: they are read by it alone, and then ordered.
        query = query.where(tags.c.manifest_id == image_id)
    if wanted.order == "updated":
        # A range of the order; in another one they would let the database look at any number of tags.
        if wanted.updated_since is not None:
            query = query.where(tags.c.updated_at >= wanted.updated_since)
        if wanted.updated_before is not None:
            query = query.where(tags.c.updated_at < wanted.updated_before)
    if wanted.order == "name":
        after = "" if cursor is None else parse_tag(cursor)
        prefix = "" if wanted.glob is None else glob_prefix(wanted.glob)
        conditions = NameRange(prefix).conditions(tags.c.name, after)
        return None if conditions is None else query.where(*conditions).order_by(tags.c.name)
    column = tags.c.updated_at if wanted.order == "updated" else tags.c.version_key
    if cursor is not None:
        key, name = _parse_position(cursor, wanted.order)
        beyond = tuple_(literal(key, column.type), literal(name, tags.c.name.type))
        # As a pair: of one version, or none, there may be any number.
        query = query.where(tuple_(column, tags.c.name) < beyond)
    return query.order_by(column.desc(), tags.c.name.desc())


async def _found(
    connection: AsyncConnection,
    repository_id: int,
    wanted: Wanted,
    rows: Sequence[Any],
    *,
    max_age: timedelta | None,
    is_sqlite: bool,
) -> list[FoundTag]:
    columns = _OF_IMAGE if wanted.label is None else (*_OF_IMAGE, *_SAID)
    query = select(*columns, db_time().label("now")).where(
        among(manifests.c.id, (row.manifest_id for row in rows), is_sqlite=is_sqlite)
    )
    images, states = {}, {}
    for one in await connection.execute(query):
        state = effective_state(one, now=one.now, max_age=max_age).state
        if wanted.state in (None, state) and (wanted.label is None or _is_labelled(one, wanted.label)):
            images[one.id], states[one.id] = one, state
    if not images:
        return []
    platforms = await _platforms(connection, repository_id, list(images.values()), is_sqlite=is_sqlite)
    signed = set() if wanted.signed is None else await _signed(connection, repository_id, images.values())
    found: list[FoundTag] = []
    for row in rows:
        image = images.get(row.manifest_id)
        if image is None:
            continue
        lacks = wanted.platform is not None and not _has_platform(platforms[image.id], wanted.platform)
        if lacks or (wanted.signed is not None and (image.digest in signed) != wanted.signed):
            continue
        found.append(
            FoundTag(
                name=row.name,
                digest=image.digest,
                media_type=image.media_type,
                size=image.size,
                updated_at=row.updated_at,
                updated_by=row.updated_by,
                platforms=tuple(platforms[image.id]),
                state=states[image.id],
            )
        )
    return found


async def _platforms(
    connection: AsyncConnection, repository_id: int, rows: Sequence[Any], *, is_sqlite: bool
) -> dict[int, list[str]]:
    found = {row.id: [] if row.platform is None else [row.platform] for row in rows}
    indexes = [row.id for row in rows if row.media_type in INDEXES]
    if not indexes:
        return found
    # Looked up for each that is listed: SQLite, which has no statistics, may begin a join with all manifests.
    platform = (
        select(_LISTED.c.platform)
        .where(_LISTED.c.repository_id == repository_id, _LISTED.c.digest == edges.c.digest)
        .scalar_subquery()
    )
    query = (
        select(edges.c.manifest_id, platform.label("platform"))
        .where(among(edges.c.manifest_id, indexes, is_sqlite=is_sqlite), edges.c.kind == "child")
        .order_by(edges.c.manifest_id, edges.c.position)
    )
    for row in await connection.execute(query):
        if row.platform is not None and row.platform not in found[row.manifest_id]:
            found[row.manifest_id].append(row.platform)
    return found


async def _signed(connection: AsyncConnection, repository_id: int, rows: Iterable[Any]) -> set[str]:
    query = select(signatures.c.subject_digest).where(
        signatures.c.repository_id == repository_id,
        signatures.c.subject_digest.in_({row.digest for row in rows}),
    )
    return set((await connection.execute(query.distinct())).scalars())


def _require_platform(text: str) -> None:
    try:
        parse_platform(text)
    except ValueError as error:
        raise RequestInvalidError(str(error)) from None


def _has_platform(platforms: Sequence[str], wanted: str) -> bool:
    """Whether one is that; who names no variant means any."""
    return any(one == wanted or one.startswith(f"{wanted}/") for one in platforms)


def _is_of_time(row: Any, wanted: Wanted) -> bool:
    since, before = wanted.updated_since, wanted.updated_before
    return (since is None or row.updated_at >= since) and (before is None or row.updated_at < before)


def _is_labelled(image: Any, label: Label) -> bool:
    return any(
        label.name in said and label.value in (None, said[label.name])
        for said in (json.loads(image.annotations), json.loads(image.labels))
    )


def _position(row: Any, order: Order) -> str:
    if order == "name":
        return str(row.name)
    if order == "updated":
        return cursor_of(row.updated_at, row.name)
    return f"{row.version_key}:{row.name}"


def _parse_position(text: str, order: Order) -> tuple[Any, str]:
    if order == "updated":
        at, name = parse_cursor(text)
        return at, parse_tag(name)
    key, colon, name = text.partition(":")
    if not colon:
        raise RequestInvalidError(f"{text[:80]!r} is no cursor of this list")
    return key, parse_tag(name)
