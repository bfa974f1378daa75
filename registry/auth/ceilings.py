"""How many of a thing one account, namespace, group or rule may have: so many as the settings say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from registry.db.dialect import in_turn

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection


async def is_full(connection: AsyncConnection, rows: Select[Any], most: int, *, of: str) -> bool:
    """Whether there are ``most`` of the ``rows``; no more of them are looked at. Until the transaction ends
    nobody else is answered about the same, which ``of`` names."""
    await in_turn(connection, of)
    counting = select(func.count()).select_from(rows.limit(most).subquery())
    return (await connection.execute(counting)).scalar_one() >= most
