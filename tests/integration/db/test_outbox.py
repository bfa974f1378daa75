"""Events: one row says who did what, on what, from where, with what and by what right."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from sqlalchemy import select

from registry.auth.actor import HOST, Actor
from registry.db.engine import Database
from registry.db.eventkinds import MEANINGS, EventKind
from registry.db.events import events
from registry.db.outbox import record
from tests.kit.sources import source_files

ANN = Actor(
    kind="user",
    name="ann",
    account_id=7,
    is_admin=True,
    token_id="t-1",
    address="192.0.2.7",
    client="podman/5",
)

BOB = Actor(kind="robot", name="team+ci", account_id=8, roles={"team/": "maintainer", "team/app": "writer"})


def test_every_kind_has_a_meaning() -> None:
    assert list(MEANINGS) == list(get_args(EventKind))


def test_every_kind_is_written_somewhere() -> None:
    texts = [path.read_text() for path in source_files("registry") if path.name != "eventkinds.py"]
    assert [kind for kind in MEANINGS if not any(f'"{kind}"' in text for text in texts)] == []


async def test_an_event_says_who_and_how(database_url: str) -> None:
    database = Database(database_url)
    async with database.write() as connection:
        await record(connection, "grant.given", "team/", ANN, {"role": ["reader", "owner"]}, target="bob")
        await record(connection, "tag.deleted", "team/app", BOB, {"tag": "1"})
        await record(connection, "user.changed", None, HOST, {"password": "new"}, target="ann")
    async with database.read() as connection:
        given, deleted, changed = (await connection.execute(select(events).order_by(events.c.id))).all()
    await database.close()
    assert (given.kind, given.repository, given.target) == ("grant.given", "team/", "bob")
    assert (given.actor, given.actor_kind, given.account_id, given.token_id) == ("ann", "user", 7, "t-1")
    assert (given.address, given.client) == ("192.0.2.7", "podman/5")
    assert (given.decision, given.rule) == ("allowed", "administrator")
    assert json.loads(given.data) == {"role": ["reader", "owner"]}
    assert (deleted.actor, deleted.rule) == ("team+ci", "maintainer on team/")
    assert (changed.repository, changed.target, changed.actor, changed.actor_kind) == (
        *(None, "ann"),
        *("host", "host"),
    )
    assert changed.at >= given.at


async def delete_and_fail(database: Database) -> None:
    async with database.write() as connection:
        await record(connection, "user.deleted", None, ANN, {}, target="bob")
        raise LookupError("the cause")


async def test_an_event_goes_with_its_cause(database_url: str) -> None:
    database = Database(database_url)
    with pytest.raises(LookupError, match="the cause"):
        await delete_and_fail(database)
    async with database.read() as connection:
        assert (await connection.execute(select(events))).all() == []
    await database.close()
