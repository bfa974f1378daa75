"""Asking for images to be judged by their findings again: a row for each, in the transaction of whatever
changed. :mod:`registry.trials.judging` answers.

All who ask write their rows in one order, that of the images' numbers: two would wait for each other's. Who
also holds the epochs does so afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from registry.db.content import manifests
from registry.db.dialect import insert, portions
from registry.db.matchings import rejudgings
from registry.db.types import db_time

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import ColumnElement
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.ext.asyncio import AsyncConnection


async def ask_again(connection: AsyncConnection, which: ColumnElement[bool]) -> None:
    """Ask for images; who is judging one of them right now has not seen this, and it stays asked for."""
    asked = _asked(connection, which)
    again = {"asked_at": asked.excluded.asked_at}
    await connection.execute(
        asked.on_conflict_do_update(index_elements=[rejudgings.c.manifest_id], set_=again)
    )


async def ask(connection: AsyncConnection, manifest_ids: Collection[int]) -> None:
    """Ask for images that have not been judged; one that is asked for keeps its turn."""
    for ids in portions(sorted(manifest_ids)):
        asked = _asked(connection, manifests.c.id.in_(ids))
        await connection.execute(asked.on_conflict_do_nothing())


def _asked(connection: AsyncConnection, which: ColumnElement[bool]) -> postgresql.Insert | sqlite.Insert:
    found = select(manifests.c.id, db_time()).where(which).order_by(manifests.c.id)
    return insert(connection, rejudgings).from_select(["manifest_id", "asked_at"], found)
