"""Roles as the rows give them: to an account and by its groups, on namespaces and repositories."""

from __future__ import annotations

from sqlalchemy import delete, insert, select, update

from registry.auth.actor import Actor
from registry.db.access import grants, group_members, groups, namespaces
from registry.db.accounts import accounts
from registry.db.content import repositories
from registry.db.engine import move_epoch
from registry.db.types import db_time
from tests.kit.access import make_repository, make_user
from tests.kit.server import Registry


async def test_the_highest_of_all_roles_comes_with_the_credential(registry: Registry) -> None:
    assert registry.services is not None
    services = registry.services
    async with registry.client() as admin:
        password = await make_user(admin, "bob")
        await make_repository(admin, "team/app", visibility="private")

    async def bob() -> Actor:
        return await services.tokens.credentials.from_basic("bob", password, address=None)

    assert (await bob()).roles == {}
    async with services.database.write() as connection:
        account = (
            await connection.execute(select(accounts.c.id).where(accounts.c.name == "bob"))
        ).scalar_one()
        repository = (await connection.execute(select(repositories.c.id))).scalar_one()
        namespace = (
            await connection.execute(select(namespaces.c.id).where(namespaces.c.name == "team"))
        ).scalar_one()
        values = {"name": "crew", "created_at": db_time()}
        group = (await connection.execute(insert(groups).values(values).returning(groups.c.id))).scalar_one()
        await connection.execute(insert(group_members).values(group_id=group, account_id=account, source=""))
        for given in (
            {"namespace_id": namespace, "account_id": account, "role": "reader"},
            {"namespace_id": namespace, "group_id": group, "role": "maintainer"},
            {"repository_id": repository, "group_id": group, "role": "writer"},
        ):
            await connection.execute(insert(grants).values(created_at=db_time(), **given))
        await move_epoch(connection, "access")
    assert (await bob()).roles == {"team/": "maintainer", "team/app": "writer"}
    async with services.database.write() as connection:
        await connection.execute(update(repositories).values(name="other/app"))
        await connection.execute(delete(group_members))
        await move_epoch(connection, "access")
    assert (await bob()).roles == {"team/": "reader"}
