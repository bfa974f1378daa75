"""Which repositories an actor may pull from, as a part of a query: so that what it may not see is passed over
in the database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, cast, false, func, literal, or_, select, union
from sqlalchemy.dialects.postgresql import JSONB

from registry.auth.policy import pull_patterns, pullable
from registry.content.nameranges import like
from registry.db.content import repositories

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import ColumnElement, Select

    from registry.auth.actor import Actor

_KINDS = 3


def pullable_ids(actor: Actor, *, is_sqlite: bool) -> Select[Any] | None:
    """The ids of the repositories; ``None``: of all. The policy has the last word on each."""
    kinds, patterns = pullable(actor), pull_patterns(actor)
    found = select(repositories.c.id)
    if "*" not in patterns:
        found = found.where(
            or_(false(), *(like(repositories.c.name, pattern) for pattern in sorted(patterns)))
        )
    elif len(kinds) == _KINDS:
        return None
    if len(kinds) == _KINDS:
        return found
    opened = union(
        select(repositories.c.id).where(repositories.c.visibility.in_(kinds)),
        *in_places(actor.roles, is_sqlite=is_sqlite),
    )
    return found.where(repositories.c.id.in_(opened))


def in_places(places: Iterable[str], *, is_sqlite: bool) -> tuple[Select[Any], Select[Any]]:
    """The ids of the repositories that are named, and of those below a namespace that is, with a slash at its
    end: for a union, which SQLite does not take inside another."""
    named = list(places)
    single = _texts((on for on in named if not on.endswith("/")), is_sqlite=is_sqlite)
    areas = _texts((on for on in named if on.endswith("/")), is_sqlite=is_sqlite).subquery()
    # The first text after all names that begin so: "0" comes after "/".
    end = func.substr(areas.c.name, 1, func.length(areas.c.name) - 1).concat("0")
    within = (repositories.c.name >= areas.c.name) & (repositories.c.name < end)
    return (
        select(repositories.c.id).where(repositories.c.name.in_(single)),
        select(repositories.c.id).join(areas, within),
    )


def _texts(values: Iterable[str], *, is_sqlite: bool) -> Select[Any]:
    """The texts as rows, however many there are: a statement takes only so many parameters."""
    text = literal(json.dumps(sorted(values)), Text())
    if is_sqlite:
        rows = func.json_each(text).table_valued("value")
        return select(rows.c.value.label("name"))
    value: ColumnElement[str] = func.jsonb_array_elements_text(cast(text, JSONB)).column_valued("value")
    return select(value.collate("C").label("name"))
