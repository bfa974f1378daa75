"""Runs of retention policies that are taken over, overtaken by another policy, or killed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import insert, update

from registry.content import retentionruns
from registry.db.content import manifests
from registry.db.engine import Database
from registry.db.retention import retention_policies, retention_runs
from registry.db.types import db_time
from registry.http.retaining import retain
from registry.http.services import Services
from tests.kit.access import api
from tests.kit.crashing import RETENTION_POINTS, CrashingServer
from tests.kit.distribution import put_manifest, small_manifest
from tests.kit.images import digest_of
from tests.kit.retention import NAME, age, carry_out, items_of, names, pushed, set_policy
from tests.kit.server import Registry

PATH = "/repositories/team%2Fapp"
_ENDED = "retentionruns._end: after commit"


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


async def test_killed_while_it_retains(tmp_path: Path, database_url: str) -> None:
    """Whatever was done is done whole and told of once, and what was broken off goes on to its end."""
    server = CrashingServer(tmp_path / "data", database_url)
    database = Database(database_url)
    try:
        for number, point in enumerate(RETENTION_POINTS):
            on = f"team/app{number}"
            async with server.start().client() as client:
                await pushed(client, "a", "b", "c", name=on)
                loose = [small_manifest(annotations={"n": f"{number} {each}"}) for each in range(3)]
                for raw in loose:
                    assert (await put_manifest(client, on, digest_of(raw), raw)).status == 201
                await age(database, 10)
                await set_policy(client, on, keep=[{"last": 1}], untagged_days=7, cap_percent=90)
                server.arm(point)
                try:
                    with pytest.raises(aiohttp.ClientError):
                        await carry_out(client, on)
                finally:
                    server.disarm()
                assert server.wait_until_killed()
            async with server.start().client() as client:
                await asyncio.sleep(1)  # until the lease of the dead one is over
                run = await carry_out(client, on)
                listed = await api(client, "GET", "/retention/runs", params={"on": on})
                runs = listed["items"]
                # Where it died after its end, somebody has asked for another one.
                assert {one["outcome"] for one in runs} == {"done"}, point.name
                assert (len(runs), run["id"]) == (1 + (point.name == _ENDED), runs[0]["id"])
                went = [item for one in runs for item in await items_of(client, one)]
                assert sorted(item["tag"] or item["digest"] for item in went) == sorted(
                    ["a", "b", *map(digest_of, loose)]
                )
                assert sum(one["tags_deleted"] for one in runs) == 2
                assert await names(client, on) == {"c"}
                undone = await api(client, "POST", f"/retention/runs/{runs[-1]['id']}/undo")
                assert (undone["restored"], undone["not_restored"]) == (5, [])
    finally:
        server.stop()
        await database.close()
