"""Refresh tokens: who gets one, what it opens, and what ends it."""

from __future__ import annotations

from datetime import datetime, timedelta

import aiohttp
from sqlalchemy import func, select, update

from registry.auth.standing import still_good
from registry.auth.voiding import void_credentials
from registry.db.accounts import accounts, refresh_tokens
from registry.db.engine import move_epoch
from registry.db.sessions import sessions
from registry.db.types import db_time
from tests.kit.access import Answer, ask, basic, bearer, make_repository, make_token, make_user
from tests.kit.server import Registry
from tests.kit.sessions import signed_in

NAME = "team/app"
SCOPE = f"repository:{NAME}:pull,push"
MAX_PER_CREDENTIAL = 500
OFFLINE = {"service": "seatrial", "client_id": "docker", "offline_token": "true"}


async def offline(nobody: aiohttp.ClientSession, name: str, password: str) -> str:
    answer = await ask(nobody, "GET", "/token", params=OFFLINE, headers=basic(name, password))
    assert answer.status == 200, answer.body
    return str(answer.json["refresh_token"])


async def redeem(nobody: aiohttp.ClientSession, text: str, **more: str) -> Answer:
    form = {"grant_type": "refresh_token", "service": "seatrial", "client_id": "docker", "scope": SCOPE}
    return await ask(nobody, "POST", "/token", data=form | {"refresh_token": text} | more)


async def test_it_stands_for_the_account_and_stays_the_same(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await make_repository(client, NAME)
    text = await offline(nobody, "admin", registry.token)
    answer = await redeem(nobody, text)
    assert answer.status == 200, answer.body
    assert answer.json["scope"] == SCOPE
    assert "refresh_token" in answer.json
    assert answer.json["refresh_token"] == text
    token = bearer(answer.json["access_token"])
    assert (await ask(nobody, "GET", f"/v2/{NAME}/tags/list", headers=token)).status == 200
    # By the password grant as well, for who asks; at rest there is none that could be used.
    form = {"grant_type": "password", "service": "seatrial", "username": "admin", "password": registry.token}
    assert "refresh_token" not in (await ask(nobody, "POST", "/token", data=form)).json
    second = (await ask(nobody, "POST", "/token", data=form | {"access_type": "offline"})).json
    assert second["refresh_token"] not in (text, "")
    assert registry.services is not None
    async with registry.services.database.read() as connection:
        rows = (await connection.execute(select(refresh_tokens))).all()
    assert len(rows) == 2
    assert not any(text in str(value) for row in rows for value in row)


async def test_nobody_gets_none_and_it_opens_nothing_else(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    """A14, and that it is not a password either."""
    await make_repository(client, NAME)
    assert "refresh_token" not in (await ask(nobody, "GET", "/token", params=OFFLINE)).json
    text = await offline(nobody, "admin", registry.token)
    for headers in (bearer(text), basic("admin", text), basic("", text)):
        assert (await ask(nobody, "GET", f"/v2/{NAME}/tags/list", headers=headers)).status == 401
        assert (await ask(nobody, "GET", "/api/v1/tokens", headers=headers)).status == 401
    registered = (await redeem(nobody, text)).json["access_token"]
    for wrong in (registry.token, registered, "", "x", "seatrialrt_" + "0" * 49, text + "0", text[:-1], "\0"):
        assert (await redeem(nobody, wrong)).status == 401, wrong
    assert (await redeem(nobody, text, service="other")).status == 400
    # A registry token prolongs itself in no way.
    assert (await ask(nobody, "GET", "/token", params=OFFLINE, headers=bearer(registered))).status == 401


async def test_it_has_the_scopes_and_the_end_of_the_token_it_was_made_with(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await make_repository(client, NAME)
    made = await make_token(client, f"repository:{NAME}:pull")
    text = await offline(nobody, "x", made["token"])
    assert (await redeem(nobody, text)).json["scope"] == f"repository:{NAME}:pull"
    assert (await ask(client, "DELETE", f"/api/v1/tokens/{made['id']}")).status == 204
    refused = await redeem(nobody, text)
    assert refused.status == 401
    assert (
        refused.json["errors"][0]["message"] == "the refresh token is not valid, or no longer; sign in again"
    )


async def test_disabling_and_a_new_password_end_it_at_once(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    assert registry.services is not None
    database = registry.services.database
    password = await make_user(client, "bob")
    text = await offline(nobody, "bob", password)
    assert (await redeem(nobody, text)).status == 200
    for change in ({"disabled_at": db_time()}, {"disabled_at": None, "credentials_after": db_time()}):
        async with database.write() as connection:
            await connection.execute(update(accounts).where(accounts.c.name == "bob").values(change))
            await move_epoch(connection, "access")
        assert (await redeem(nobody, text)).status == 401, change
    assert (await redeem(nobody, await offline(nobody, "bob", password))).status == 200


async def test_what_was_issued_at_the_time_before_which_all_is_revoked_stays(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    """Of refresh tokens and of sessions alike; a microsecond later it goes."""
    assert registry.services is not None
    database = registry.services.database
    password = await make_user(client, "bob")
    text, cookie = await offline(nobody, "bob", password), await signed_in(nobody, "bob", password)
    async with database.write() as connection:
        at: datetime = (await connection.execute(select(db_time()))).scalar_one()
        for table in (refresh_tokens, sessions):
            await connection.execute(update(table).values(created_at=at))

    async def statuses(before: datetime) -> tuple[int, int]:
        body = {"account": "bob", "before": before.isoformat()}
        assert (await ask(client, "POST", "/api/v1/tokens/revoke", json=body)).status == 200
        session = await ask(nobody, "GET", "/api/v1/sessions", headers=cookie)
        return (await redeem(nobody, text)).status, session.status

    assert await statuses(at) == (200, 200)
    assert await statuses(at + timedelta(microseconds=1)) == (401, 401)


async def test_what_was_issued_in_the_tick_of_a_revocation_is_revoked(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    assert registry.services is not None
    await make_user(client, "bob")
    bob = accounts.c.name == "bob"
    async with registry.services.database.write() as connection:
        account_id = (await connection.execute(select(accounts.c.id).where(bob))).scalar_one()
        for number in range(100):
            row = {"id": f"r{number}", "account_id": account_id, "secret_hash": f"h{number}", "client": ""}
            times = {"created_at": db_time(), "expires_at": db_time(timedelta(days=1))}
            await connection.execute(refresh_tokens.insert().values(**row, **times))
            await void_credentials(connection, account_id, "bob")
        living = select(func.count()).select_from(refresh_tokens.join(accounts))
        good = still_good(refresh_tokens.c.created_at)
        assert (await connection.execute(living.where(good))).scalar_one() == 0


async def test_each_use_puts_off_its_end_and_old_ones_make_room(
    registry: Registry, nobody: aiohttp.ClientSession
) -> None:
    assert registry.services is not None
    database = registry.services.database
    first = await offline(nobody, "admin", registry.token)
    async with database.write() as connection:
        await connection.execute(update(refresh_tokens).values(expires_at=db_time(timedelta(minutes=1))))
        columns = [column for column in refresh_tokens.c if column.name not in ("id", "secret_hash")]
        source = select(*columns).limit(1)
        row = (await connection.execute(source)).one()._asdict()
        more = [
            {**row, "id": f"o{number}", "secret_hash": f"h{number}"} for number in range(MAX_PER_CREDENTIAL)
        ]
        await connection.execute(refresh_tokens.insert(), more)
    assert (await redeem(nobody, first)).status == 200
    async with database.read() as connection:
        used = (
            await connection.execute(select(refresh_tokens).where(refresh_tokens.c.last_used_at.is_not(None)))
        ).one()
        assert (used.expires_at - used.last_used_at) > timedelta(days=89, hours=23)
    last = await offline(nobody, "admin", registry.token)
    async with database.read() as connection:
        count = (await connection.execute(select(func.count()).select_from(refresh_tokens))).scalar_one()
    assert count == MAX_PER_CREDENTIAL
    assert (await redeem(nobody, first)).status == (await redeem(nobody, last)).status == 200


async def test_a_weak_token_ends_none_of_what_was_made_with_another(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    assert registry.services is not None
    database = registry.services.database
    strong = await offline(nobody, "admin", registry.token)
    weak = (await make_token(client, "repository:public/app:pull"))["token"]
    await offline(nobody, "admin", weak)
    async with database.write() as connection:
        columns = [column for column in refresh_tokens.c if column.name not in ("id", "secret_hash")]
        source = select(*columns).order_by(refresh_tokens.c.id.desc()).limit(1)
        row = (await connection.execute(source)).one()._asdict()
        more = [
            {**row, "id": f"o{number}", "secret_hash": f"h{number}"} for number in range(MAX_PER_CREDENTIAL)
        ]
        await connection.execute(refresh_tokens.insert(), more)
    await offline(nobody, "admin", weak)
    async with database.read() as connection:
        count = (await connection.execute(select(func.count()).select_from(refresh_tokens))).scalar_one()
    assert count == MAX_PER_CREDENTIAL + 1
    assert (await redeem(nobody, strong)).status == 200


async def test_one_lists_and_revokes_his_own(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    password = await make_user(client, "bob")
    bob = basic("bob", password)
    text, other = await offline(nobody, "bob", password), await offline(nobody, "admin", registry.token)

    async def listed(headers: dict[str, str], query: str = "") -> list[dict[str, object]]:
        answer = await ask(nobody, "GET", f"/api/v1/refresh-tokens{query}", headers=headers)
        assert answer.status == 200, answer.body
        assert text not in answer.body.decode()
        return list(answer.json["items"])

    (mine,) = await listed(bob)
    assert (mine["account"], mine["client"], mine["address"]) == ("bob", "docker", "127.0.0.1")
    (his,) = await listed(basic("admin", registry.token))
    assert await listed(basic("admin", registry.token), "?account=bob") == [mine]
    path = "/api/v1/refresh-tokens"
    assert (await ask(nobody, "GET", f"{path}?account=admin", headers=bob)).status == 403
    assert (await ask(nobody, "DELETE", f"{path}/{his['id']}", headers=bob)).status == 404
    limited = await make_token(client, "repository:a:pull")
    assert (await ask(nobody, "GET", path, headers=bearer(limited["token"]))).status == 403
    assert (
        await ask(nobody, "DELETE", f"{path}/{mine['id']}", headers=bearer(limited["token"]))
    ).status == 403
    assert (await ask(nobody, "DELETE", f"{path}/{mine['id']}", headers=bob)).status == 204
    assert (await redeem(nobody, text)).status == 401
    assert (await redeem(nobody, other)).status == 200
