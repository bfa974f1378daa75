"""A registry with one repository of each visibility, and everybody who may ask it for something."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import aiohttp
from sqlalchemy import insert, select, update

from registry.db.access import grants, namespaces
from registry.db.accounts import accounts, tokens
from registry.db.dialect import insert_ignoring_conflict
from registry.db.engine import move_epoch
from registry.db.types import db_time
from tests.kit.access import (
    basic,
    bearer,
    make_token,
    make_user,
    make_worker_token,
    registry_token,
)
from tests.kit.distribution import push_small
from tests.kit.matrix import PLACES
from tests.kit.server import Registry

ROLES = ("reader", "writer", "maintainer", "owner")
ALL = "pull,push,trial,delete,configure,administer"


@dataclass(frozen=True, slots=True)
class World:
    """``headers`` are what each actor signs in with."""

    registry: Registry
    headers: Mapping[str, Mapping[str, str]]


async def make_world(registry: Registry, admin: aiohttp.ClientSession) -> World:
    """Make repositories ``public/app``, ``internal/app`` and ``private/app``, and everybody of the matrix."""
    for place in PLACES[:3]:
        await push_small(admin, f"{place}/app", "v1")
        change = {"visibility": place}
        async with admin.patch(f"/api/v1/repositories/{place}%2Fapp", json=change) as response:
            assert response.status == 200, await response.text()
    people = {name: await make_user(admin, name) for name in ("stranger", *ROLES, "auditor", "robot")}
    headers = {name: basic(name, password) for name, password in people.items()}
    await _give_roles(registry)
    owner = aiohttp.ClientSession(f"http://{registry.host}", headers=headers["owner"])
    async with owner:
        made = {
            "pull-token": await make_token(owner, "repository:*:pull"),
            "elsewhere-token": await make_token(owner, f"repository:elsewhere/*:{ALL}"),
            "expired-token": await make_token(owner, f"repository:*:{ALL}"),
            "revoked-token": await make_token(owner, f"repository:*:{ALL}"),
            "robot": await make_token(admin, f"repository:*:{ALL}", account="robot"),
        }
    await _end_tokens(registry, expired=made["expired-token"]["id"], revoked=made["revoked-token"]["id"])
    headers |= {name: basic("x", token["token"]) for name, token in made.items()}
    async with registry.client(anonymous=True) as nobody:
        narrow = await registry_token(nobody, "repository:elsewhere/app:pull,push", headers=headers["owner"])
        empty = await registry_token(nobody, headers={})
    return World(
        registry,
        headers
        | {
            "anonymous": {},
            "administrator": basic("admin", registry.token),
            "narrow-token": bearer(narrow),
            "empty-token": bearer(empty),
            "worker": bearer(await make_worker_token(admin, "worker")),
        },
    )


async def _give_roles(registry: Registry) -> None:
    assert registry.services is not None
    async with registry.services.database.write() as connection:
        await connection.execute(update(accounts).where(accounts.c.name == "auditor").values(is_auditor=True))
        for place in PLACES:
            values = {"name": place, "created_at": db_time()}
            await connection.execute(insert_ignoring_conflict(connection, namespaces, values))
            found = select(namespaces.c.id).where(namespaces.c.name == place)
            namespace = (await connection.execute(found)).scalar_one()
            for name in (*ROLES, "robot"):
                account = select(accounts.c.id).where(accounts.c.name == name)
                given = {
                    "namespace_id": namespace,
                    "account_id": (await connection.execute(account)).scalar_one(),
                    "role": "writer" if name == "robot" else name,
                    "created_at": db_time(),
                }
                await connection.execute(insert(grants).values(given))
        await move_epoch(connection, "access")


async def _end_tokens(registry: Registry, *, expired: str, revoked: str) -> None:
    assert registry.services is not None
    async with registry.services.database.write() as connection:
        past = db_time(-timedelta(minutes=5))
        await connection.execute(update(tokens).where(tokens.c.id == expired).values(expires_at=past))
        await connection.execute(update(tokens).where(tokens.c.id == revoked).values(revoked_at=past))
        # A robot has tokens and no sign-in.
        await connection.execute(
            update(accounts).where(accounts.c.name == "robot").values(kind="robot", password_hash=None)
        )
        await move_epoch(connection, "access")
