"""How many of a thing one account, namespace, group or rule may have: so many as the settings say.

Those that are made at the same moment do not see each other: there may be a few more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection


async def is_full(connection: AsyncConnection, rows: Select[Any], most: int) -> bool:
    """Whether there are ``most`` of the ``rows``; no more of them are looked at."""
    counting = select(func.count()).select_from(rows.limit(most).subquery())
    return (await connection.execute(counting)).scalar_one() >= most
