"""Rows of a repository, of a namespace, or of neither, with the name of where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from registry.db.access import namespaces
from registry.db.content import repositories

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Select, Table


def with_place(table: Table, *columns: Any) -> Select[Any]:
    """Columns of a table that has ``repository_id`` and ``namespace_id``, and ``place``: a repository, a
    namespace with a slash at its end, or null."""
    return (
        select(*columns, func.coalesce(repositories.c.name, namespaces.c.name + "/").label("place"))
        .select_from(table)
        .outerjoin(repositories, repositories.c.id == table.c.repository_id)
        .outerjoin(namespaces, namespaces.c.id == table.c.namespace_id)
    )


def nearest_first(table: Table) -> tuple[ColumnElement[Any], ...]:
    """The order of such rows that count in one place: its own, then those of the nearest namespace above; for
    a query that joins the namespaces."""
    return table.c.repository_id.is_(None), func.length(namespaces.c.name).desc()
