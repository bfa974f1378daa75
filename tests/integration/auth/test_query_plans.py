"""Accounts and tokens are looked up and listed by an index, whatever their number: the database says so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from registry.db.engine import Database
from registry.db.schema import metadata
from tests.kit.access import api, ask, basic, bearer, make_token, make_user, registry_token
from tests.kit.accountrows import fill_accounts
from tests.kit.plans import listening
from tests.kit.server import Registry, running_registry

FEW = ("epochs", "keys", "schema_floor", "audit_keeping")
"""Tables that have a handful of rows, whatever the registry holds."""
LARGE = frozenset(metadata.tables) - {*FEW, "events"}  # the trail counts its rows in the background
FULL = ("accounts", "tokens")
"""Those that have many rows here: what an index is good for shows."""
Statement = tuple[str, Any]


@pytest.fixture
async def registry(tmp_path: Path, database_url: str) -> AsyncIterator[Registry]:
    """A registry with many users and tokens, on SQLite and on PostgreSQL."""
    async with running_registry(tmp_path / "data", database_url) as running:
        await asyncio.to_thread(fill_accounts, database_url, users=500, tokens=3000)
        yield running


@contextmanager
def recorded() -> Iterator[list[Statement]]:
    """The statements that look something up while the block runs; sweeping is not that."""
    seen: list[Statement] = []

    def remember(text: str, parameters: Any) -> None:
        if text.startswith(("SELECT", "UPDATE", "WITH")) and isinstance(parameters, tuple | dict):
            seen.append((text, parameters))

    with listening(remember):
        yield seen


async def require_indexes(
    database: Database, statements: list[Statement], *, besides: str | None = None
) -> int:
    """Ask the database how it finds the rows of each of them; how many there were. ``besides`` is a table
    that may be read whole."""
    once, large = dict(statements), {*LARGE, "following"} - {besides}
    for text, parameters in once.items():
        if database.is_sqlite:
            async with database.read() as connection:
                explained = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", parameters)
                steps = [str(row[-1]) for row in explained]
            scans = [step for step in steps if step.startswith("SCAN ")]
            bad = [step for step in scans if step.split()[1].strip('"') in large]
            assert not bad, (text, steps)
            continue
        async with database.write() as connection:
            # With few rows it would read them all, as it may; what counts is whether it must.
            for way in ("seqscan", "hashjoin", "mergejoin"):
                await connection.exec_driver_sql(f"SET LOCAL enable_{way} = off")
            explained = await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {text}", parameters)
            found = explained.scalar_one()
        plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
        for node in walk(plan):
            if node.get("Relation Name") in large:
                assert node["Node Type"] != "Seq Scan", (text, plan)
                if node["Node Type"].startswith("Index") and node["Relation Name"] in FULL:
                    assert "Index Cond" in node, (text, plan)
    return len(once)


def walk(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node of a plan."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from walk(below)


async def require_in_order(database: Database, statements: list[Statement]) -> None:
    """Each page is read in the order of its index: nothing is sorted, and no more is read than is shown."""
    pages = [one for one in statements if "FROM tokens" in one[0] and "LIMIT" in one[0]]
    assert pages
    for text, parameters in pages:
        async with database.write() as connection:
            if not database.is_sqlite:
                await connection.exec_driver_sql("SET LOCAL enable_sort = off")
            how = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN (FORMAT JSON)"
            plan = str((await connection.exec_driver_sql(f"{how} {text}", parameters)).all())
        assert "USE TEMP B-TREE" not in plan, (text, plan)
        assert "'Sort'" not in plan, (text, plan)


def database_of(registry: Registry) -> Database:
    """The registry's database."""
    assert registry.services is not None
    return registry.services.database


async def test_pages_of_tokens(registry: Registry, client: aiohttp.ClientSession) -> None:
    await api(client, "GET", "/tokens", params={"limit": "1"})
    queries: tuple[dict[str, str], ...] = (
        {},
        {"state": "active"},
        {"state": "expired"},
        {"state": "revoked"},
        {"expiring_within": "864000"},
        {"unused_for": "3600"},
        {"account": "user00000007"},
        {"account": "user00000007", "state": "active", "unused_for": "60"},
        {"made_by": "000000007"},
    )
    for query in queries:
        ids: list[str] = []
        with recorded() as statements:
            page = await api(client, "GET", "/tokens", params=query | {"limit": "7"})
            for _ in range(3):
                ids += [token["id"] for token in page["items"]]
                if page["next"] is None:
                    break
                further = {"limit": "7", "cursor": page["next"]}
                page = await api(client, "GET", "/tokens", params=query | further)
        assert len(ids) == len(set(ids)), query
        assert await require_indexes(database_of(registry), statements) >= 1, query
        await require_in_order(database_of(registry), statements)


async def test_lists_are_whole_and_each_token_is_in_one_state(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    async def everything(**query: str) -> list[str]:
        found: list[str] = []
        cursor: str | None = None
        while True:
            more = {"cursor": cursor} if cursor else {}
            page = await api(client, "GET", "/tokens", params={"limit": "700", **query, **more})
            found += [token["id"] for token in page["items"]]
            cursor = page["next"]
            if cursor is None:
                return found

    all_of_them = await everything()
    assert len(all_of_them) == 3001
    by_state = [await everything(state=state) for state in ("active", "expired", "revoked")]
    assert sorted(token for tokens in by_state for token in tokens) == sorted(all_of_them)
    active, expired, revoked = map(set, by_state)
    assert len(revoked) == 600
    soon = await everything(expiring_within=str(24 * 3600))
    assert soon
    assert set(soon) < active
    unused = await everything(unused_for="3600")
    assert len(unused) == len(set(unused))
    assert not set(unused) & revoked
    assert set(unused) & active
    assert set(unused) & expired
    both = await everything(unused_for="3600", state="active")
    assert set(both) == set(unused) & active
    assert len(await everything(account="user00000007")) == 6
    for wrong in ("x", "0", "9~1", "0~x", "0~1~2~3", "0~" + "9" * 30 + "~a", "~~~"):
        await api(client, "GET", "/tokens", status=400, params={"state": "expired", "cursor": wrong})


async def test_signing_in_and_managing(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    with recorded() as statements:
        password = await make_user(client, "bob")
        as_bob = basic("bob", password)
        made = await make_token(client, "repository:team/*:pull", account="bob", networks=["127.0.0.0/8"])
        for headers in (as_bob, bearer(made["token"]), basic("x", made["token"])):
            await registry_token(nobody, "repository:team/app:pull", headers=headers)
        derived = await registry_token(nobody, "repository:team/app:pull", headers=bearer(made["token"]))
        await ask(nobody, "GET", "/v2/team/app/tags/list", headers=bearer(derived))
        await ask(nobody, "GET", "/api/v1/tokens", headers=bearer("seatrial_" + "0" * 49))
        path = f"/tokens/{made['id']}"
        new = await api(client, "POST", f"{path}/rotate", status=201, json={})
        await api(client, "PATCH", path, json={"name": "other"})
        await api(nobody, "GET", "/tokens", headers=as_bob)
        await api(nobody, "GET", f"/tokens/{new['id']}", headers=as_bob)
        await api(nobody, "DELETE", f"/tokens/{new['id']}", status=204, headers=as_bob)
        await api(client, "POST", "/tokens/revoke", json={"account": "bob"})
        await api(client, "POST", "/tokens", status=201, json={"worker": "w1"})
        await api(client, "PATCH", "/workers/w1", json={"namespaces": ["team"], "networks": ["127.0.0.0/8"]})
        await api(client, "GET", "/workers/w1")
        assert registry.services is not None
        await registry.services.tokens.credentials.uses.close()
    # For whom an image is too large, all workers that ask for jobs are looked at, and no account but theirs.
    looks = [one for one in statements if "ORDER BY workers.account_id" in one[0]]
    others = [one for one in statements if one not in looks]
    assert await require_indexes(database_of(registry), others) > 20
    assert looks
    await require_indexes(database_of(registry), looks, besides="workers")


async def test_a_cold_token_is_one_query(registry: Registry, client: aiohttp.ClientSession) -> None:
    made = await make_token(client, "repository:team/*:pull", networks=["127.0.0.0/8"])
    assert registry.services is not None
    credentials = registry.services.tokens.credentials
    await database_of(registry).epochs()
    with recorded() as statements:
        for _ in range(3):
            await credentials.from_api_token(made["token"], address="127.0.0.1")
    asked = [text for text, _ in statements if "accounts" in text or "tombstones" in text]
    assert len(asked) == 1
