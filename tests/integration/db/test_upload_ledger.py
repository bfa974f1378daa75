"""Who holds an upload: rows that every replica sees."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from uuid_utils import uuid7

from registry.content.uploadledger import DatabaseLedger
from registry.db.engine import Database


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[DatabaseLedger]:
    """A ledger on each database."""
    database = Database(database_url)
    yield DatabaseLedger(database)
    await database.close()


async def test_what_was_let_go_is_not_held_again_by_a_late_renewal(ledger: DatabaseLedger) -> None:
    locator = uuid7().hex
    await ledger.create(locator)
    state = await ledger.hold(locator)
    assert state is not None
    assert await ledger.renew(state)
    await ledger.save(state, release=True)
    assert not await ledger.renew(state)
    following = await ledger.hold(locator)
    assert following is not None
    assert following.epoch > state.epoch
