"""The catalog: names of the repositories that the caller may pull from.

A page costs as much as it is long, however many repositories there are that the caller does not see: what the
account may see and what the token covers are turned into ranges of an index, which are read in order. Only a
pattern that goes on after its ``*`` makes the database look at every name that begins like it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from registry.auth.policy import decide, pull_patterns, pullable
from registry.content import repositories as repos
from registry.content.nameranges import NameRange, ranges, read_in_order
from registry.db.content import repositories
from registry.db.dialect import batches

if TYPE_CHECKING:
    from sqlalchemy import Row, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.db.engine import Database

_KINDS = 3


async def list_names(
    database: Database, *, actor: Actor, limit: int, after: str | None, namespace: str | None = None
) -> list[str]:
    """At most ``limit`` names in bytewise order, those after ``after``, which need not exist; of a
    ``namespace``: those below it."""
    within = "" if namespace is None else f"{namespace}/"
    patterns = pull_patterns(actor)
    exact = {pattern for pattern in patterns if "*" not in pattern}
    sees_all = len(pullable(actor)) == _KINDS
    single = exact if sees_all else exact | {on for on in actor.roles if not on.endswith("/")}
    async with database.read() as connection:
        inside = {name for name in single if name.startswith(within)}
        names = await _of_names(connection, actor, inside, after=after or "", limit=limit)
        walked: list[str] = []
        for part in filter(None, (each.narrowed(within) for each in ranges(patterns - exact))):
            if len(walked) >= limit:
                break
            walked += await read_in_order(
                connection,
                partial(_streams, actor, part),
                after=after or "",
                limit=limit - len(walked),
                allowed=lambda row: _is_allowed(actor, row),
            )
    return sorted({*names, *walked})[:limit]


async def _of_names(
    connection: AsyncConnection, actor: Actor, names: set[str], *, after: str, limit: int
) -> list[str]:
    found: list[str] = []
    for batch in batches(sorted(name for name in names if name > after)):
        if len(found) >= limit:
            break
        rows = await connection.execute(repos.COLUMNS.where(repositories.c.name.in_(batch)))
        found += [row.name for row in rows if _is_allowed(actor, row)]
    return found


def _streams(actor: Actor, part: NameRange, after: str) -> list[list[Select[Any]]]:
    """What of a range the account may see: all, or some kinds and what its roles open."""
    kinds = pullable(actor)
    everything = part.conditions(repositories.c.name, after)
    if everything is None:
        return []
    if len(kinds) == _KINDS:
        return [[repos.COLUMNS.where(*everything)]]
    opened: list[Select[Any]] = []
    for area in ranges(f"{on}*" for on in actor.roles if on.endswith("/")):
        inside = part.narrowed(area.prefix)
        conditions = inside and inside.conditions(repositories.c.name, after)
        if conditions:
            opened.append(repos.COLUMNS.where(*conditions))
    return [
        *([repos.COLUMNS.where(repositories.c.visibility == kind, *everything)] for kind in kinds),
        opened,
    ]


def _is_allowed(actor: Actor, row: Row[*tuple[Any, ...]]) -> bool:
    """It is the policy that decides, and the ranges only find."""
    return decide(actor, "pull", row.name, row.visibility).allowed
