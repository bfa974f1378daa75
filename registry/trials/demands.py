"""What a run spec demands of isolation, and whether a worker has it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from sqlalchemy import select

from registry.db.accounts import accounts, workers
from registry.trials.present import ASKING

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection


def stored_demand(required: Sequence[str]) -> str | None:
    """The demand as it stands in a row: one text for each meaning."""
    return json.dumps(sorted(set(required))) if required else None


def parse_demand(stored: str | None) -> frozenset[str]:
    """The mechanisms that a row demands."""
    return frozenset() if stored is None else frozenset(json.loads(stored))


def met(stored: str | None, mechanisms: Collection[str]) -> bool:
    """Whether a worker whose runs can have ``mechanisms`` may try what a row demands."""
    return parse_demand(stored) <= set(mechanisms)


async def why_waiting(connection: AsyncConnection, demands: Collection[str | None]) -> Mapping[str, str]:
    """For each demand that no worker meets that gets jobs and was here lately: why it waits, in words."""
    asked = {one for one in demands if one is not None}
    if not asked:
        return {}
    query = select(workers.c.mechanisms).join(accounts, accounts.c.id == workers.c.account_id).where(*ASKING)
    found = [parse_demand(row.mechanisms) for row in await connection.execute(query)]
    return {
        one: _in_words(parse_demand(one), found)
        for one in asked
        if not any(parse_demand(one) <= mechanisms for mechanisms in found)
    }


def _in_words(required: frozenset[str], found: Sequence[frozenset[str]]) -> str:
    if not found:
        return f"waits for a worker that has {_listed(required)}: no worker asks for jobs"
    nowhere = required - frozenset().union(*found)
    if nowhere:
        return f"waits for a worker that has {_listed(nowhere)}: none of {len(found)} has"
    return f"waits for a worker that has {_listed(required)}: none of {len(found)} has all of them"


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names))
