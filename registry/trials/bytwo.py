"""What it takes two people for: one asks, and another grants it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from registry.auth.policy import namespaces_above
from registry.db.access import namespaces

if TYPE_CHECKING:
    from sqlalchemy import Column
    from sqlalchemy.ext.asyncio import AsyncConnection


async def takes_two(connection: AsyncConnection, name: str, setting: Column[bool]) -> bool:
    """Whether a repository of this name takes two people for what ``setting``, a column of namespaces, is
    about: what the nearest namespace above says that says something."""
    query = (
        select(setting)
        .where(namespaces.c.name.in_(namespaces_above(name)), setting.is_not(None))
        .order_by(func.length(namespaces.c.name).desc())
        .limit(1)
    )
    return bool((await connection.execute(query)).scalar_one_or_none())
