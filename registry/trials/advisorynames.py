"""What a vulnerability is called besides: it is found by each of its names."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sqlalchemy import literal, or_, select, union_all

from registry.db.dialect import insert_ignoring_conflict, portions
from registry.db.matchings import advisory_names, component_findings
from registry.db.types import Bytewise

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection


async def keep_names(connection: AsyncConnection, matches: Iterable[tuple[str, str]]) -> None:
    """Let each match, given by its advisory and the JSON of its aliases, be found by each of them."""
    told = {(alias, advisory) for advisory, aliases in matches for alias in json.loads(aliases)}
    kept: set[tuple[str, str]] = set()
    for names in portions(sorted({name for name, _ in told})):
        query = select(advisory_names.c.name, advisory_names.c.advisory)
        kept |= {
            tuple(row) for row in await connection.execute(query.where(advisory_names.c.name.in_(names)))
        }
    for some in portions(sorted(told - kept)):
        rows = [{"name": name, "advisory": advisory} for name, advisory in some]
        await connection.execute(insert_ignoring_conflict(connection, advisory_names, rows))


def told_of_by(name: str) -> Select[Any]:
    """The packages, by their numbers, of which an advisory tells that goes by this name, or is also called
    so."""
    ids = union_all(
        select(literal(name, Bytewise)),
        select(advisory_names.c.advisory).where(advisory_names.c.name == name),
    )
    # It may have been called so once: what it is called now stands with the match.
    called = component_findings.c.aliases.contains(json.dumps(name), autoescape=True)
    return select(component_findings.c.component_id).where(
        component_findings.c.advisory.in_(ids), or_(component_findings.c.advisory == name, called)
    )
