"""Places that roles are given on: a repository, or a namespace and all that lies below it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, or_, select

from registry.auth.access import require
from registry.auth.policy import namespaces_above
from registry.db.access import namespaces
from registry.db.content import repositories
from registry.db.placed import nearest_first, with_place
from registry.errors import ConflictError, NameUnknownError, NotFoundError
from registry.oci.names import parse_repository_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import ColumnElement, Select, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor


@dataclass(frozen=True, slots=True)
class Place:
    """``name`` is without the slash that tells a namespace's key from a repository's."""

    name: str
    is_namespace: bool

    @property
    def key(self) -> str:
        """As roles and events name it: ``team/app``, or ``team/`` for a namespace."""
        return f"{self.name}/" if self.is_namespace else self.name

    @property
    def column(self) -> str:
        """What names it in rows of what there is on repositories and namespaces."""
        return "namespace_id" if self.is_namespace else "repository_id"

    @property
    def above(self) -> tuple[str, ...]:
        """The namespaces above it, the nearest first."""
        return tuple(namespaces_above(self.name))


def repository(name: str) -> Place:
    """A repository.

    Raises:
        NameInvalidError: outside the grammar.
    """
    return Place(parse_repository_name(name), is_namespace=False)


def namespace(name: str) -> Place:
    """A namespace.

    Raises:
        NameInvalidError: outside the grammar.
    """
    return Place(parse_repository_name(name), is_namespace=True)


def parse_place(key: str) -> Place:
    """A place by its :attr:`~Place.key`.

    Raises:
        NameInvalidError: outside the grammar.
    """
    return namespace(key.removesuffix("/")) if key.endswith("/") else repository(key)


def require_manager(actor: Actor, place: Place) -> None:
    """Let ``actor`` give and take roles at a place, and manage its robots.

    Raises:
        UnauthorizedError: nobody, or a registry token, which never covers that.
        DeniedError: neither owner there nor administrator; whether there is such a place is not told.
    """
    require(actor, "administer", place.key, None)


def counts_in(table: Table, repository_id: object, name: str) -> ColumnElement[bool]:
    """That a row of something at places counts in a repository of that name: its own, or that of a namespace
    above."""
    return or_(table.c.repository_id == repository_id, _is_on(table, namespaces_above(name)))


def nearest_in(table: Table, repository_id: object, name: str, *columns: Any) -> Select[Any]:
    """The rows that count so, the nearest first, with ``place``."""
    counting = with_place(table, *columns).where(counts_in(table, repository_id, name))
    return counting.order_by(*nearest_first(table))


def nearest_at(table: Table, place: Place, place_id: int, *columns: Any) -> Select[Any]:
    """As :func:`nearest_in`, the rows on a place and on the namespaces above it."""
    counting = or_(table.c[place.column] == place_id, _is_on(table, place.above))
    return with_place(table, *columns).where(counting).order_by(*nearest_first(table))


def _is_on(table: Table, names: Iterable[str]) -> ColumnElement[bool]:
    return table.c.namespace_id.in_(select(namespaces.c.id).where(namespaces.c.name.in_(names)))


async def find_place(connection: AsyncConnection, place: Place) -> int:
    """The number of the place's row.

    Raises:
        NameUnknownError, NotFoundError: there is none.
    """
    return await _found(connection, place, _by_name(place))


async def hold_place(connection: AsyncConnection, place: Place) -> int:
    """As :func:`find_place`; the row is not deleted before the transaction ends.

    Raises:
        NameUnknownError, NotFoundError: there is none.
    """
    return await _found(connection, place, _by_name(place).with_for_update(read=True, key_share=True))


async def hold_columns(connection: AsyncConnection, place: Place | None) -> dict[str, int | None]:
    """What a row of something at a place has in its two columns, both null for what is of everything; the
    place is held as by :func:`hold_place`.

    Raises:
        NameUnknownError, NotFoundError: there is no such place.
    """
    columns: dict[str, int | None] = {"repository_id": None, "namespace_id": None}
    if place is not None:
        columns[place.column] = await hold_place(connection, place)
    return columns


async def require_fewer(
    connection: AsyncConnection, table: Table, columns: Mapping[str, int | None], *, most: int
) -> None:
    """Let one more row be made at the place with these :func:`hold_columns`.

    Raises:
        ConflictError: there are ``most`` of them.
    """
    here = and_(*(table.c[name].is_not_distinct_from(number) for name, number in columns.items()))
    count = (await connection.execute(select(func.count()).select_from(table).where(here))).scalar_one()
    if count >= most:
        raise ConflictError(f"there are {count} {table.name} there already; {most} are the limit")


def _by_name(place: Place) -> Select[int]:
    table = namespaces if place.is_namespace else repositories
    return select(table.c.id).where(table.c.name == place.name)


async def _found(connection: AsyncConnection, place: Place, query: Select[int]) -> int:
    number: int | None = (await connection.execute(query)).scalar_one_or_none()
    if number is not None:
        return number
    if place.is_namespace:
        raise NotFoundError(f"there is no namespace {place.name[:300]}")
    raise NameUnknownError(f"there is no repository {place.name}")
