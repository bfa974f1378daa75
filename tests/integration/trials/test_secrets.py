"""Secrets of the registry: who may keep and name them, who is told their values, and who never is."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select, update

from registry.contract.isolation import SPEC_NEWS
from registry.db.secrets import secrets
from registry.db.trials import parts
from registry.db.types import db_time
from tests.kit.access import api, ask, basic, bearer, give_role, make_user
from tests.kit.trials import REPOSITORY, Port, ScriptedWorker, tiny_image

SPEC = {"version": 1, "env": {"A": {"secret": "DB"}}}
VALUE, OTHER = "the value of it", "another value"


async def keep(port: Port, name: str, value: str, **place: str) -> Any:
    body = {"name": name, "value": value, **place}
    return await api(port.admin, "POST", "/secrets", status=201, json=body)


async def claim(worker: ScriptedWorker) -> Any:
    return await worker.claim(mechanisms=SPEC_NEWS)


async def test_only_a_lease_is_told_a_value(port: Port) -> None:
    digest = await port.push(tiny_image())
    worker = await port.worker("one")
    await worker.report(await worker.claim())
    namespace = REPOSITORY.rpartition("/")[0]
    above = await keep(port, "DB", OTHER, namespace=namespace)
    assert (above["place"], "value" in above) == (f"{namespace}/", False)
    asked = {"image": f"{REPOSITORY}@{digest}", "spec": SPEC}

    async def told() -> Any:
        await api(port.admin, "POST", "/trials", status=201, json=asked)
        job = await claim(worker)
        assert job["spec"]["env"] == SPEC["env"]
        assert (await worker.report(job)).status == 204
        return job.get("secrets")

    assert await told() == {"DB": OTHER}
    # The nearer one goes before.
    mine = await keep(port, "DB", VALUE, repository=REPOSITORY)
    await keep(port, "UNNAMED", "of no concern", repository=REPOSITORY)
    assert await told() == {"DB": VALUE}
    rotated = await api(port.admin, "POST", f"/secrets/{mine['id']}/rotate", json={"value": "a third value"})
    assert (mine["rotated_at"], rotated["rotated_at"] is None) == (None, False)
    assert await told() == {"DB": "a third value"}
    listed = await api(port.admin, "GET", f"/secrets?repository={REPOSITORY}&limit=1")
    assert [one["name"] for one in listed["items"]] == ["DB"]
    shown = [listed, await api(port.admin, "GET", "/audit"), await port.trials(digest)]
    assert not any(value in json.dumps(shown) for value in (VALUE, OTHER, "a third value"))
    async with port.database.read() as connection:
        rows = (await connection.execute(select(secrets.c.value))).scalars().all()
    assert len(rows) == 3
    assert not any(value.encode() in row for value in (VALUE, OTHER, "a third value") for row in rows)

    for one in (mine, above):
        await api(port.admin, "DELETE", f"/secrets/{one['id']}", status=204)
    refused = await api(port.admin, "POST", "/trials", status=400, json=asked)
    assert "the secret 'DB', which neither" in refused["detail"]
    kinds = [one["action"] for one in (await api(port.admin, "GET", "/audit"))["items"]]
    assert {"secret.created", "secret.rotated", "secret.deleted"} <= set(kinds)


async def test_one_that_is_gone_is_the_verdict(port: Port) -> None:
    made = await keep_in_repository(port)
    await api(port.admin, "PATCH", f"/repositories/{REPOSITORY.replace('/', '%2F')}", json={"run_spec": SPEC})
    await api(port.admin, "DELETE", f"/secrets/{made['id']}", status=204)
    digest = await port.push(tiny_image())
    worker = await port.worker("one")
    while await claim(worker) is not None:
        pass
    (trial,) = await port.trials(digest)
    assert trial["verdict"] == "error"
    assert trial["reason"].startswith("spec-invalid: the run spec names the secret 'DB', which neither")


async def test_a_worker_that_knows_no_secrets_is_told_of_none(port: Port) -> None:
    await keep_in_repository(port)
    await api(port.admin, "PATCH", f"/repositories/{REPOSITORY.replace('/', '%2F')}", json={"run_spec": SPEC})
    digest = await port.push(tiny_image())
    old, new = await port.worker("old"), await port.worker("new")
    assert await old.claim() is None
    assert await old.claim(mechanisms=["seccomp"]) is None
    (trial,) = await port.trials(digest)
    assert trial["reason"] == "waits for a worker that has run-spec secrets: none of 2 has"
    assert (await claim(new))["secrets"] == {"DB": VALUE}


async def test_one_that_cannot_be_read_now_leaves_no_lease(port: Port) -> None:
    made = await keep_in_repository(port)
    async with port.database.read() as connection:
        kept = (await connection.execute(select(secrets.c.value))).scalar_one()

    async def become(value: bytes) -> None:
        async with port.database.write() as connection:
            await connection.execute(update(secrets).where(secrets.c.id == made["id"]).values(value=value))
            await connection.execute(update(parts).values(run_after=db_time()))

    await api(port.admin, "PATCH", f"/repositories/{REPOSITORY.replace('/', '%2F')}", json={"run_spec": SPEC})
    worker = await port.worker("one")
    digest = await port.push(tiny_image())
    await become(bytes(len(kept)))
    assert await claim(worker) is None
    (trial,) = await port.trials(digest)
    said = "the registry could not read what the job needs; its log has the reason"
    assert (trial["state"], trial["parts"][0]["reason"]) == ("queued", said)
    # As soon as it can, the job is handed out, by whatever name its repository has by then.
    moved = {"name": "other/place"}
    await api(port.admin, "POST", f"/repositories/{REPOSITORY.replace('/', '%2F')}/rename", json=moved)
    await become(kept)
    job = await claim(worker)
    assert (job["digest"], job["attempt"], job["secrets"]) == (digest, 2, {"DB": VALUE})


async def keep_in_repository(port: Port) -> Any:
    await port.push(tiny_image())
    worker = await port.worker("first")
    await worker.report(await worker.claim())
    return await keep(port, "DB", VALUE, repository=REPOSITORY)


@pytest.mark.parametrize(("role", "status"), [("writer", 403), ("maintainer", 201)])
async def test_who_may_name_one_in_a_request(port: Port, role: str, status: int) -> None:
    digest = await port.push(tiny_image())
    await keep(port, "DB", VALUE, repository=REPOSITORY)
    password = await make_user(port.admin, "somebody")
    async with aiohttp.ClientSession(port.registry.url, headers=basic("somebody", password)) as client:
        await give_role(port.admin, REPOSITORY, "user:somebody", role)
        asked = {"image": f"{REPOSITORY}@{digest}", "spec": SPEC}
        answer = await api(client, "POST", "/trials", status=status, json=asked)
        assert (status == 201) or "may not name secrets (DB)" in answer["detail"]
        await api(client, "POST", "/trials", status=201, json={"image": asked["image"]})


async def test_what_is_wrong_is_said_without_the_value(port: Port) -> None:
    await port.push(tiny_image())
    for body, status, why in (
        ({"name": "A", "value": "short-x", "repository": REPOSITORY}, 400, "has 7 bytes"),
        ({"name": "A b", "value": VALUE, "repository": REPOSITORY}, 400, "no name of a secret"),
        ({"name": "A", "value": VALUE}, 400, "give a repository or a namespace"),
        ({"name": "A", "value": [VALUE], "repository": REPOSITORY}, 400, "value"),
        ({"name": "A", "value": VALUE, "repository": "team/none"}, 404, "team/none"),
    ):
        answer = await api(port.admin, "POST", "/secrets", status=status, json=body)
        assert why in json.dumps(answer)
        assert VALUE not in json.dumps(answer)
        assert "short-x" not in json.dumps(answer)
    await keep(port, "A", VALUE, repository=REPOSITORY)
    again = {"name": "A", "value": VALUE, "repository": REPOSITORY}
    await api(port.admin, "POST", "/secrets", status=409, json=again)


async def test_a_message_to_a_hook_names_none(port: Port) -> None:
    await port.push(tiny_image())
    await keep(port, "DB", VALUE, repository=REPOSITORY)
    body = {
        "name": "ci",
        "repository": REPOSITORY,
        "scheme": "bearer",
        "mapping": {"image": "/image", "spec": "/spec"},
    }
    hook = await api(port.admin, "POST", "/hooks", status=201, json=body)
    async with aiohttp.ClientSession(port.registry.url, headers=bearer(hook["secret"])) as sender:
        for spec, status in ((SPEC, 403), ({"version": 1}, 202)):
            message = {"image": f"{REPOSITORY}:1", "spec": spec}
            answer = await ask(sender, "POST", "/hooks/ci", json=message)
            assert (answer.status, b"may not name secrets" in answer.body) == (status, status == 403)
