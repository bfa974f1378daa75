"""Manifests of a repository by tag or digest, with the repository: in one statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select, true, union_all

from registry.auth.policy import decide
from registry.content import repositories as repos
from registry.content.administration import find
from registry.content.manifests import COLUMNS, StoredManifest, from_columns
from registry.content.repositories import Repository
from registry.db.content import manifest_contents, manifests, repositories, tags
from registry.errors import NameUnknownError
from registry.oci.digest import Digest
from registry.oci.names import parse_repository_name

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy import Select

    from registry.auth.actor import Actor
    from registry.auth.policy import Action
    from registry.db.engine import Database

Reference = str | Digest
"""A tag (``str``), or a digest."""
_MANIFEST = "manifest_"
"""How the names of a manifest's columns begin where those of its repository stand beside them."""


async def find_named(
    database: Database, *, actor: Actor, action: Action, name: str, references: Collection[Reference]
) -> tuple[Repository, Mapping[Reference, StoredManifest]]:
    """The repository, if the actor may do ``action`` there, and those of the manifests that are there.

    Raises:
        UnauthorizedError, DeniedError, NameUnknownError: as :func:`registry.content.administration.find`.
    """
    parse_repository_name(name)
    if not decide(actor, action, name, None).allowed:
        # Before it is known that he may, nothing is looked for in it: a stranger's clock could tell.
        await find(database, actor=actor, action=action, name=name)
    digests = {str(one) for one in references if isinstance(one, Digest)}
    given = {
        "name": name,
        "digests": sorted(digests),
        "tags": sorted({str(one) for one in references} - digests),
    }
    async with database.read_once() as connection:
        rows = (await connection.execute(_NAMED, given)).all()
    if not rows:
        await find(database, actor=actor, action=action, name=name)
        raise NameUnknownError(f"there is no repository {name}")
    repository = Repository(*(getattr(rows[0], name) for name in Repository.__dataclass_fields__))
    found = {
        row.reference: from_columns({one.name: getattr(row, _MANIFEST + one.name) for one in COLUMNS})
        for row in rows
        if row.reference is not None
    }
    return repository, {one: found[str(one)] for one in references if str(one) in found}


def _named() -> Select[Any]:
    """A row for each manifest that is there, or one without any."""
    here = select(repositories.c.id).where(repositories.c.name == bindparam("name")).scalar_subquery()
    wanted = union_all(
        select(manifests.c.digest.label("reference"), manifests.c.id).where(
            manifests.c.repository_id == here, manifests.c.digest.in_(bindparam("digests", expanding=True))
        ),
        select(tags.c.name, tags.c.manifest_id).where(
            tags.c.repository_id == here, tags.c.name.in_(bindparam("tags", expanding=True))
        ),
    ).subquery("wanted")
    return (
        repos.COLUMNS.add_columns(
            wanted.c.reference,
            *(column.label(_MANIFEST + column.name) for column in COLUMNS),
        )
        .select_from(repositories)
        .outerjoin(wanted, true())
        .outerjoin(manifests, manifests.c.id == wanted.c.id)
        .outerjoin(manifest_contents, manifest_contents.c.digest == manifests.c.digest)
        .where(repositories.c.name == bindparam("name"))
    )


# Put together once: that takes longer than the query itself.
_NAMED = _named()
