"""Runs of retention policies that take long, are taken over, overtaken by another policy, or killed; and
pushes and pulls beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import insert, make_url, select, update
from structlog.testing import capture_logs

from registry.content import manifests as manifest_use
from registry.content import retaining, retentionruns
from registry.content.retentionruns import Claimed
from registry.db.content import manifests
from registry.db.engine import Database
from registry.db.events import pull_days
from registry.db.retention import retention_policies, retention_runs
from registry.db.types import db_time
from registry.http.retaining import retain
from registry.http.services import Services
from tests.kit.access import api, ask
from tests.kit.crashing import RETENTION_LEASE_SECONDS, RETENTION_POINTS, CrashingServer
from tests.kit.distribution import put_manifest, small_manifest
from tests.kit.images import digest_of
from tests.kit.model import Op
from tests.kit.modelcontents import BLOBS, contents_of
from tests.kit.modelstate import POLICY
from tests.kit.play import Player
from tests.kit.retention import NAME, age, carry_out, items_of, names, pushed, set_policy
from tests.kit.server import Registry, running_replicas

PATH = "/repositories/team%2Fapp"


def services_of(registry: Registry) -> Services:
    assert registry.services is not None
    return registry.services


async def test_another_replica_goes_on_where_one_was_killed(
    client: aiohttp.ClientSession, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first one has deleted counts for the fuse, and it has no say any more."""
    services = services_of(registry)
    database = services.database
    await pushed(client, *(f"t{number}" for number in range(6)))
    await set_policy(client, NAME, keep=[{"last": 3}])
    monkeypatch.setattr(retentionruns, "AT_ONCE", 2)
    async with database.write() as connection:
        number = (await connection.execute(manifests.select().limit(1))).one().repository_id
        policy = (await connection.execute(retention_policies.select())).one()
        row = {"repository_id": number, "document": policy.document, "cap": 5, "cap_percent": 50}
        await connection.execute(
            insert(retention_runs).values(**row, asked_by="a", asked_at=db_time(), leased_until=db_time())
        )
    first = await retentionruns.claim(database)
    assert first is not None
    assert await retentionruns.claim(database) is None
    async with database.write() as connection:
        await connection.execute(
            update(retention_runs).values(leased_until=db_time(-timedelta(seconds=1)), tags_deleted=0)
        )
    # It was killed after a portion: whoever comes next plans anew.
    await api(client, "DELETE", f"{PATH}/tags/t0", status=204)
    async with database.write() as connection:
        await connection.execute(update(retention_runs).values(tags_deleted=1))
    second = await retentionruns.claim(database)
    assert second is not None
    await retentionruns.carry_out(database, services.settings, services.effects, first)
    assert await names(client) == {f"t{number}" for number in range(1, 6)}, "it was taken over"
    await retentionruns.carry_out(database, services.settings, services.effects, second)
    (run,) = (await api(client, "GET", "/retention/runs", params={"on": NAME}))["items"]
    assert (run["outcome"], run["tags_deleted"]) == ("done", 3)
    assert await names(client) == {"t3", "t4", "t5"}


async def test_a_run_ends_where_another_policy_counts_meanwhile(
    client: aiohttp.ClientSession, registry: Registry
) -> None:
    services = services_of(registry)
    await pushed(client, "a", "b")
    await set_policy(client, NAME, keep=[{"last": 1}])
    asked = {"asked_by": "a", "asked_at": db_time(), "leased_until": db_time(), "cap": 9, "cap_percent": 99}
    async with services.database.write() as connection:
        policy = (await connection.execute(retention_policies.select())).one()
        row = {"repository_id": policy.repository_id, "document": policy.document}
        await connection.execute(insert(retention_runs).values(**row, **asked))
    await set_policy(client, NAME, keep=[{"last": 2}])
    assert await retain(services) == 1
    (run,) = (await api(client, "GET", "/retention/runs", params={"on": NAME}))["items"]
    assert (run["outcome"], run["detail"]) == ("stopped", "another policy counts there by now, or none")
    assert await names(client) == {"a", "b"}


async def begun(client: aiohttp.ClientSession, services: Services, **policy: Any) -> Claimed:
    """A run of this policy, which this process has claimed before its own loop could."""
    await set_policy(client, NAME, **policy)
    asked = {"asked_by": "a", "asked_at": db_time(), "leased_until": db_time(), "cap": 99, "cap_percent": 100}
    async with services.database.write() as connection:
        row = (await connection.execute(retention_policies.select())).one()
        here = {"repository_id": row.repository_id, "document": row.document}
        await connection.execute(insert(retention_runs).values(**here, **asked))
    claimed = await retentionruns.claim(services.database)
    assert claimed is not None
    return claimed


def after_planning(monkeypatch: pytest.MonkeyPatch, then: Callable[[], Awaitable[None]]) -> None:
    """Have something happen between the plan of a run and what it deletes."""
    plan = retaining.plan

    async def planned(*given: Any, **more: Any) -> Any:
        made = await plan(*given, **more)
        await then()
        return made

    monkeypatch.setattr(retaining, "plan", planned)


async def last_run(client: aiohttp.ClientSession) -> dict[str, Any]:
    (run, *_) = (await api(client, "GET", "/retention/runs", params={"on": NAME}))["items"]
    return dict(run)


async def test_nobody_takes_a_run_over_that_takes_long_to_plan(
    client: aiohttp.ClientSession, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = services_of(registry)
    monkeypatch.setattr(retentionruns, "LEASE", timedelta(seconds=0.6))
    others: list[object] = []

    async def wait() -> None:
        for _ in range(6):
            await asyncio.sleep(0.2)
            others.append(await retentionruns.claim(services.database))

    await pushed(client, "a", "b")
    run = await begun(client, services, keep=[{"last": 1}])
    after_planning(monkeypatch, wait)
    await retentionruns.carry_out(services.database, services.settings, services.effects, run)
    assert others == [None] * 6
    ended = await last_run(client)
    assert (ended["outcome"], ended["tags_deleted"]) == ("done", 1)


async def test_what_is_pulled_after_the_plan_is_kept_by_a_rule_for_pulls(
    client: aiohttp.ClientSession, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = services_of(registry)

    async def pull() -> None:
        async with services.database.write() as connection:
            now = (await connection.execute(select(db_time()))).scalar_one()
            day = (now - type(now).fromtimestamp(0, now.tzinfo)).days
            for digest in digests[:2]:
                row = {"digest": digest, "repository": NAME, "actor": "bob", "count": 1}
                await connection.execute(insert(pull_days).values(**row, day=day, last_at=now))

    digests = await pushed(client, "v1", "other", "v2", "v3")
    run = await begun(client, services, keep=[{"tags": {"by": "glob", "pattern": "v*"}, "pulled_days": 30}])
    after_planning(monkeypatch, pull)
    await retentionruns.carry_out(services.database, services.settings, services.effects, run)
    # The rule is not about the other one that was pulled.
    assert await names(client) == {"v1"}
    assert (await last_run(client))["tags_deleted"] == 3


async def test_the_share_is_of_all_that_may_go_though_a_run_takes_less(
    client: aiohttp.ClientSession, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else run by run would delete what no run may."""
    monkeypatch.setattr(retaining, "MANIFESTS_MAX", 3)
    await pushed(client, "base")
    for number in range(7):
        raw = small_manifest(annotations={"n": str(number)})
        assert (await put_manifest(client, NAME, digest_of(raw), raw)).status == 201
    await age(services_of(registry).database, 10)
    await set_policy(client, NAME, untagged_days=7)
    run = await carry_out(client, NAME)
    assert (run["outcome"], run["manifests_deleted"]) == ("stopped", 0)
    assert run["detail"] == "it would delete 7 of 8 manifests; 50 % are the most"
    run = await carry_out(client, NAME, cap_percent=90)
    assert (run["outcome"], run["manifests_deleted"]) == ("done", 3)


async def test_a_run_ends_that_fails_after_it_has_deleted_something(
    client: aiohttp.ClientSession, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease was renewed meanwhile; it would be tried again and again."""
    services = services_of(registry)

    async def fail(*_given: object, **_more: object) -> None:
        raise RuntimeError("of which nobody knew")

    await pushed(client, "a", "b")
    raw = small_manifest(annotations={"n": "loose"})
    assert (await put_manifest(client, NAME, digest_of(raw), raw)).status == 201
    await age(services.database, 10)
    run = await begun(client, services, keep=[{"last": 1}], untagged_days=7)
    monkeypatch.setattr(manifest_use, "take_out", fail)
    with capture_logs() as logs:
        await retentionruns.carry_out(services.database, services.settings, services.effects, run)
    assert [one["event"] for one in logs] == ["a retention run could not be carried out"]
    ended = await last_run(client)
    assert (ended["outcome"], ended["tags_deleted"]) == ("stopped", 1)
    assert ended["detail"] == "the registry could not carry it out; its log says why"


ROUNDS = 3


@pytest.mark.timeout(600)
async def test_pushes_while_runs_delete(tmp_path: Path, database_url: str) -> None:
    """What was old and named by nothing is tagged and listed while runs delete it, on two replicas where the
    database takes them: whatever a client was told is there is there whole."""
    count = 1 if make_url(database_url).get_backend_name() == "sqlite" else 2
    given = {"access_log": False, "collection_every_seconds": 0}
    async with (
        AsyncExitStack() as stack,
        running_replicas(tmp_path, database_url, count, **given) as registries,
    ):
        clients = [await stack.enter_async_context(one.client()) for one in registries]
        database = Database(database_url)
        stack.push_async_callback(database.close)
        for number in range(ROUNDS):
            player = Player({"admin": clients}, contents_of(f"round{number}"), database)
            await push_beside_runs(player)


async def push_beside_runs(player: Player) -> None:
    client, last = player.clients["admin"][0], player.clients["admin"][-1]
    name, keys = player.contents.name(0), ("image-0", "image-1", "image-512", "signature", "index")

    async def push(key: str, *tags: str) -> int:
        status, *_ = await player.do(Op("put-manifest", key=key, tags=tags))
        assert isinstance(status, int)
        return status

    async def push_listed() -> None:
        """As clients do: what it lists first, and all again where the registry says so."""
        status = 0
        while status != 201:
            assert await push("image-0") == await push("image-1") == 201
            status = await push("index", "a")
            assert status in (201, 400)

    for blob in BLOBS:
        assert await player.do(Op("push-blob", blob=blob, how="put")) == (201,)
    for key in keys:
        assert await push(key) == 201
    for number in range(20):  # so that a run takes a while
        raw = small_manifest(config=player.contents.blobs[0], annotations={"n": str(number)})
        assert (await put_manifest(client, name, digest_of(raw), raw)).status == 201
    await player.do(Op("older", days=9))
    await set_policy(client, name, **POLICY)
    *_, tagged = await asyncio.gather(
        carry_out(client, name),
        carry_out(last, name),
        push_listed(),
        push("signature"),
        push("image-512", "c"),
    )
    assert tagged == 201
    for key in keys:
        assert await player.do(Op("get-manifest", key=key)) == (200, key)
    for blob in BLOBS:
        assert await player.do(Op("get-blob", blob=blob)) == (200, blob)
    await carry_out(client, name)
    await player.do(Op("collect"))
    assert await player.do(Op("get-tag", tag="a")) == (200, "index")


async def test_killed_while_it_retains(tmp_path: Path, database_url: str) -> None:
    """One run, killed at each of its points, one after the other: whatever was done is done whole and told of
    once, and what was broken off goes on to its end."""
    server = CrashingServer(tmp_path / "data", database_url)
    loose = small_manifest(annotations={"n": "loose"})
    try:
        async with server.start().client() as client:
            digests = await pushed(client, "a", "b", "c")
            assert (await put_manifest(client, NAME, digest_of(loose), loose)).status == 201
            await set_policy(client, NAME, keep=[{"last": 1}], untagged_days=7, cap_percent=90)
        database = Database(database_url)
        await age(database, 10)
        await database.close()
        for point in RETENTION_POINTS:
            async with server.start().client() as client:
                await asyncio.sleep(RETENTION_LEASE_SECONDS)
                server.arm(point)
                try:
                    with pytest.raises(aiohttp.ClientError):
                        await carry_out(client, NAME)
                finally:
                    server.disarm()
                assert server.wait_until_killed(), point.name
            async with server.start().client() as client:
                gone = {"a", "b", "c"} - await names(client)
                there = await ask(client, "HEAD", f"/v2/{NAME}/manifests/{digest_of(loose)}")
                gone |= {digest_of(loose)} if there.status == 404 else set()
                assert await told_of(client) == sorted(gone), point.name
        async with server.start().client() as client:
            # It had ended when it was killed for the last time: that is another one.
            assert (await carry_out(client, NAME))["tags_deleted"] == 0
            last, first = (await api(client, "GET", "/retention/runs", params={"on": NAME}))["items"]
            assert (first["outcome"], first["tags_deleted"], first["manifests_deleted"]) == ("done", 2, 1)
            assert (last["outcome"], await told_of(client)) == ("done", sorted(["a", "b", digest_of(loose)]))
            undone = await api(client, "POST", f"/retention/runs/{first['id']}/undo")
            assert (undone["restored"], undone["not_restored"]) == (3, [])
            assert await names(client) == {"a", "b", "c"}
            for digest in (*digests, digest_of(loose)):
                assert (await ask(client, "HEAD", f"/v2/{NAME}/manifests/{digest}")).status == 200
    finally:
        server.stop()


async def told_of(client: aiohttp.ClientSession) -> list[str]:
    """What all runs say that they have deleted."""
    runs = (await api(client, "GET", "/retention/runs", params={"on": NAME}))["items"]
    went = [item for run in runs for item in await items_of(client, run)]
    return sorted(item["tag"] or item["digest"] for item in went)
