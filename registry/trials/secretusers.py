"""Which repositories get the value of a secret: those whose run spec names it, and that have no nearer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, or_, select

from registry.auth.policy import HIDDEN
from registry.db.access import namespaces
from registry.db.content import repositories
from registry.db.placed import with_place
from registry.db.secrets import secrets
from registry.trials.specs import secrets_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Column, ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.places import Place

LOOKED_AT = 200
"""How many run specs are read for one list: a large one takes a millisecond."""


async def users_of(
    connection: AsyncConnection, place: Place, names: Sequence[str]
) -> tuple[Mapping[str, Sequence[str]], bool]:
    """By name of a secret of a place, the repositories that get its value, by name; and whether these are
    all."""
    if not names:
        return {}, True
    here = repositories.c.name == place.name
    if place.is_namespace:
        here = and_(
            _is_below(repositories.c.name, place.key),
            ~repositories.c.name.contains(f"/{HIDDEN}", autoescape=True),
        )
    # As the canonical JSON has it; what only looks so is told apart below.
    named = or_(*(repositories.c.run_spec.contains(f'"secret":"{name}"', autoescape=True) for name in names))
    query = select(repositories.c.name, repositories.c.run_spec).where(here, named)
    rows = (await connection.execute(query.order_by(repositories.c.name).limit(LOOKED_AT + 1))).all()
    places = await _places_below(connection, place, names) if place.is_namespace else {}
    found: dict[str, list[str]] = {name: [] for name in names}
    for row in rows[:LOOKED_AT]:
        for name in secrets_in(row.run_spec) & found.keys():
            if not any(_counts(nearer, row.name) for nearer in places.get(name, ())):
                found[name].append(row.name)
    return found, len(rows) <= LOOKED_AT


async def _places_below(
    connection: AsyncConnection, place: Place, names: Sequence[str]
) -> Mapping[str, Sequence[str]]:
    """By name, where below a namespace there are secrets that are called so too."""
    query = with_place(secrets, secrets.c.name).where(
        secrets.c.name.in_(names),
        or_(_is_below(repositories.c.name, place.key), _is_below(namespaces.c.name, place.key)),
    )
    found: dict[str, list[str]] = {}
    for row in await connection.execute(query):
        found.setdefault(row.name, []).append(row.place)
    return found


def _is_below(name: Column[str], key: str) -> ColumnElement[bool]:
    # "0" is what follows the slash.
    return and_(name > key, name < f"{key[:-1]}0")


def _counts(place: str, repository: str) -> bool:
    return repository.startswith(place) if place.endswith("/") else repository == place
