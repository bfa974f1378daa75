"""Where an image is, by its digest or the beginning of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import select

from registry.auth.policy import decide
from registry.db.content import manifests, repositories, tags
from registry.errors import RequestInvalidError

if TYPE_CHECKING:
    from registry.auth.actor import Actor
    from registry.db.engine import Database

BEGINNING = re.compile(r"sha(?:256:[0-9a-f]{8,64}|512:[0-9a-f]{8,128})")
_LOOKED_AT = 1000
_TAGS_MAX = 5000


@dataclass(frozen=True, slots=True)
class Placed:
    """An image in a repository, and the first tags by name that name it there."""

    repository: str
    digest: str
    platform: str | None
    pushed_at: datetime
    tags: Sequence[str]


async def find_placed(database: Database, *, actor: Actor, beginning: str, limit: int) -> Sequence[Placed]:
    """At most ``limit`` images whose digest begins so, in repositories that the actor may pull from, by
    digest and by name. Of very many of one beginning only the first thousand are looked at.

    Raises:
        RequestInvalidError: it is no beginning of a digest, with eight digits at least.
    """
    if BEGINNING.fullmatch(beginning) is None:
        raise RequestInvalidError(
            f"{beginning[:80]!r} does not begin a digest: sha256: or sha512: and eight digits or more"
        )
    found = (
        select(
            manifests.c.id,
            repositories.c.name,
            repositories.c.visibility,
            manifests.c.digest,
            manifests.c.platform,
            manifests.c.pushed_at,
        )
        .join(repositories, repositories.c.id == manifests.c.repository_id)
        # Bytewise: no digit is above f.
        .where(manifests.c.digest >= beginning, manifests.c.digest < f"{beginning}g")
        .order_by(manifests.c.digest, repositories.c.name)
        .limit(_LOOKED_AT)
    )
    async with database.read() as connection:
        rows = (await connection.execute(found)).all()
        seen = [row for row in rows if decide(actor, "pull", row.name, row.visibility).allowed][:limit]
        named: dict[int, list[str]] = {}
        if seen:
            naming = (
                select(tags.c.manifest_id, tags.c.name)
                .where(tags.c.manifest_id.in_([row.id for row in seen]))
                .order_by(tags.c.name)
                .limit(_TAGS_MAX)
            )
            for tag in await connection.execute(naming):
                named.setdefault(tag.manifest_id, []).append(tag.name)
    return [
        Placed(row.name, row.digest, row.platform, row.pushed_at, named.get(row.id, [])[:20]) for row in seen
    ]
