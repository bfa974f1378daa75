"""What was run already in the namespace is judged anew, and not run again."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from sqlalchemy import delete, func, select, update

from registry.contract.isolation import SPEC_NEWS
from registry.contract.limits import Limits, PrepareLimits
from registry.db.accounts import workers
from registry.db.content import attestations, manifests, repositories
from registry.db.trials import parts, runs, trials
from registry.db.types import db_time
from registry.trials.keeping import Keeping, sweep
from registry.trials.unattested import unattested_parts, unattested_trials
from tests.kit.access import api, ask, give_role, make_repository, make_user
from tests.kit.distribution import push_image
from tests.kit.images import Image
from tests.kit.plans import listening
from tests.kit.trials import Port, ScriptedWorker, make_error, open_port, tiny_image, tiny_index

DAYS = 2


async def test_a_copy_in_the_namespace_is_judged_and_not_run(port: Port) -> None:
    image, worker = tiny_image(), await port.worker("one")
    digest = await port.push(image)
    await run(worker, log="a secret of the first\n")
    (first,) = await port.trials(digest)
    await age(port, timedelta(days=400))
    await port.push(image, repository="team/copy")
    assert await port.state(digest, repository="team/copy") == "pass"
    assert await worker.claim() is None
    copied = await trial(port, "team/copy", digest)
    assert (copied["verdict"], copied["reason"]) == (first["verdict"], first["reason"])
    (part,), (one,) = copied["parts"], copied["runs"]
    assert (part["reused_from"], part["attempts"], part["worker"]) == (first["id"], 0, "one")
    assert (one["log"], one["log_truncated"]) == ("", True)
    assert one["observations"] == first["runs"][0]["observations"]
    assert first["parts"][0]["reused_from"] is None
    # It is attested with its true age, and what it rests on is not swept for that.
    await sweep(port.database, Keeping(days=365, newest=1))
    assert (await trial(port, "team/copy", digest))["runs"] == [one]
    async with port.database.read() as connection:
        of_copy = select(attestations.c.kind, attestations.c.found).join(repositories)
        rows = await connection.execute(of_copy.where(repositories.c.name == "team/copy"))
        found = {row.kind: json.loads(row.found) for row in rows}
        (at,) = (await connection.execute(select(parts.c.finished_at).distinct())).scalars()
        for missing in (unattested_parts(), unattested_trials()):
            assert (await connection.execute(missing)).all() == []
    said = f"{at:%Y-%m-%dT%H:%M:%SZ}"
    assert (found["result"]["finished_at"], found["summary"]["judged_at"]) == (said, said)
    # A copy of the copy rests on the same run, whatever became of the first.
    await api(port.admin, "DELETE", "/repositories/team%2Fapp", status=204)
    await port.push(image, repository="team/third")
    third = await trial(port, "team/third", digest)
    assert (third["verdict"], third["parts"][0]["reused_from"]) == ("pass", first["id"])
    # Not across namespaces, and who asks for a run gets one.
    for name in ("team/below/copy", "other/copy", "copy"):
        await is_run(port, image, name, worker)
    await api(port.admin, "POST", "/trials", json={"image": f"team/copy@{digest}"}, status=201)
    await run(worker)
    (part,) = (await trial(port, "team/copy", digest))["parts"]
    assert (part["reused_from"], part["attempts"]) == (None, 1)


async def test_the_kept_report_is_judged_by_the_rules_of_now(port: Port) -> None:
    image, worker = tiny_image(), await port.worker("one")
    digest = await port.push(image)
    await run(worker)
    async with port.database.write() as connection:
        await connection.execute(
            update(runs).values(observations=func.replace(runs.c.observations, "true", "false"))
        )
    await port.push(image, repository="team/copy")
    assert await port.state(digest, repository="team/copy") == "fail"
    # What another version keeps and this one cannot read is no report, nor is one of which runs are gone.
    for spoil in (
        update(parts).values(record=func.replace(parts.c.record, '"tested"', '"of a later version"')),
        delete(runs),
    ):
        async with port.database.write() as connection:
            await connection.execute(spoil)
        name = f"team/after-{spoil.__visit_name__}"
        await port.push(image, repository=name)
        assert await port.state(digest, repository=name) == "pending"


async def test_what_is_not_the_same_is_run(port: Port) -> None:
    image, worker = tiny_image(), await port.worker("one")
    await port.push(image)
    await run(worker, **make_error("layer-invalid"))
    await is_run(port, image, "team/after-error", worker)
    await is_run(port, image, "team/strict", worker, run_spec="version: 1\nexpect: {exit: 3}\n")
    await is_run(port, image, "team/suggests", worker, image_spec_allowed=True)
    # Secrets are other ones elsewhere, though the spec is the same.
    for place in ("one", "two"):
        name = f"team/secret-{place}"
        await make_repository(port.admin, name)
        kept = {"name": "DB", "value": f"the value of {place}", "repository": name}
        await api(port.admin, "POST", "/secrets", status=201, json=kept)
        spec = {"version": 1, "env": {"A": {"secret": "DB"}}}
        await is_run(port, image, name, worker, run_spec=spec)
    # Another runtime than the workers have now, or another isolation.
    await port.push(tiny_image(), tag="other")
    await run(worker, runtime="scripted 2.0")
    await is_run(port, image, "team/newer", worker, runtime="scripted 2.0", downgrades=["seccomp"])
    await port.push(tiny_image(), tag="another")
    await run(worker, runtime="scripted 2.0")
    await is_run(port, image, "team/isolated", worker, runtime="scripted 2.0")
    await port.push(image, repository="team/same")
    assert await worker.claim() is None


async def test_who_ran_it_must_be_trusted_and_who_pushes_may_read_it(port: Port) -> None:
    image, worker = tiny_image(), await port.worker("one")
    digest = await port.push(image)
    await run(worker)
    # Somebody who has the bytes, and may not look into where they were run, learns nothing of it.
    password = await make_user(port.admin, "out")
    for name in ("team/own", "team/shared"):
        await make_repository(port.admin, name, visibility="private")
        await give_role(port.admin, name, "user:out", "writer")
    await api(port.admin, "PATCH", "/repositories/team%2Fapp", json={"visibility": "private"})
    async with port.registry.client(password, user="out") as out:
        await push_image(out, "team/own", "1", image)
        assert await port.state(digest, repository="team/own") == "pending"
        await give_role(port.admin, "team/app", "user:out", "reader")
        await push_image(out, "team/shared", "1", image)
        assert await port.state(digest, repository="team/shared") == "pass"
    # Nor does a worker count that may not try what is here, though another could.
    await port.worker("two")
    async with port.database.write() as connection:
        of_one = select(workers.c.ran_with).where(workers.c.ran_with.is_not(None)).scalar_subquery()
        able = {"ran_with": of_one, "last_seen_at": db_time(), "platforms": '["linux/amd64"]'}
        await connection.execute(update(workers).values(able))
    await api(port.admin, "PATCH", "/workers/one", json={"namespaces": ["elsewhere"]})
    await port.push(image, repository="team/unbound")
    assert await port.state(digest, repository="team/unbound") == "pending"
    await api(port.admin, "PATCH", "/workers/one", json={"namespaces": ["team"]})
    await port.push(image, repository="team/bound")
    assert await port.state(digest, repository="team/bound") == "pass"
    await api(port.admin, "POST", "/workers/one/revoke", status=204)
    await port.push(image, repository="team/revoked")
    assert await port.state(digest, repository="team/revoked") == "pending"


async def test_a_worker_that_was_let_in_again_vouches_for_what_it_ran_since(port: Port) -> None:
    image, worker = tiny_image(), await port.worker("one")
    digest = await port.push(image)
    await run(worker)
    await api(port.admin, "POST", "/workers/one/revoke", status=204)
    worker = await port.worker("one")
    # It is here, and ran its last job with the same.
    await port.push(tiny_image(), tag="other")
    await run(worker)
    await is_run(port, image, "team/after", worker)
    # Another token is no other worker.
    worker = await port.worker("one")
    await port.push(image, repository="team/later")
    assert await port.state(digest, repository="team/later") == "pass"
    assert await worker.claim() is None


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_report_that_another_has_replaced_is_not_taken(port: Port, database_url: str) -> None:
    """It is found by the worker that ran it, and read a moment later. SQLite has one writer."""
    image, worker = tiny_image(), await port.worker("one")
    digest = await port.push(image)
    await run(worker)
    replaced: list[str] = []

    def replace(text: str, _parameters: Any) -> None:
        if "parts.record" in text and "JOIN runs" in text and not replaced:
            replaced.append(text)
            with psycopg.connect(database_url, autocommit=True) as other:
                other.execute("UPDATE parts SET worker = 'two', finished_at = finished_at + 1")

    with listening(replace):
        await port.push(image, repository="team/copy")
    assert replaced
    assert await port.state(digest, repository="team/copy") == "pending"


async def test_what_was_run_under_other_limits_is_run(tmp_path: Path, database_url: str) -> None:
    """The spec's digest says nothing of the limits that hold where it says nothing."""
    image, data = tiny_image(), tmp_path / "data"
    async with open_port(data, database_url) as port:
        worker = await port.worker("one")
        digest = await port.push(image)
        await run(worker)
    changes: dict[str, Any] = {
        "limits": Limits(pids=100),
        "ceiling": Limits(pids=1000),
        "prepare": PrepareLimits(files=1000),
    }
    for name, changed in changes.items():
        async with open_port(data, database_url, **{name: changed}) as port:
            await is_run(port, image, f"team/{name}", await port.worker("one"))
            # That was under these, and so is a copy of a copy.
            for copy in ("copy", "third"):
                await port.push(image, repository=f"team/{name}-{copy}")
                assert await port.state(digest, repository=f"team/{name}-{copy}") == "pass"
    # What a version before ran it does not say.
    async with open_port(data, database_url) as port:
        async with port.database.write() as connection:
            await connection.execute(update(parts).values(limits_digest=None))
        await port.push(image, repository="team/unknown")
        assert await port.state(digest, repository="team/unknown") == "pending"


async def test_a_kept_report_is_no_younger_for_it(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url, verdict_max_age_days=DAYS) as port:
        index, (image,) = tiny_index("linux/amd64")
        worker = await port.worker("one")
        await port.push(index)
        await run(worker)
        await age(port, timedelta(days=1))
        await port.push(index, repository="team/copy")
        assert await port.state("1", repository="team/copy") == "pass"
        async with port.database.read() as connection:
            ages = select(db_time(timedelta(hours=-23)) > manifests.c.state_at).where(
                manifests.c.state == "pass"
            )
            assert (await connection.execute(ages)).scalars().all() == [True] * 4
        await age(port, timedelta(days=DAYS))
        await port.push(image, repository="team/late")
        assert await port.state(image.digest, repository="team/late") == "pending"
        # Nor with nobody here who could run it.
        await run(worker)
        await run_all(worker)
        async with port.database.write() as connection:
            await connection.execute(update(workers).values(last_seen_at=db_time(timedelta(hours=-1))))
        await port.push(image, repository="team/nobody-here")
        assert await port.state(image.digest, repository="team/nobody-here") == "pending"


async def is_run(
    port: Port,
    image: Image,
    name: str,
    worker: ScriptedWorker,
    *,
    run_spec: Any = None,
    image_spec_allowed: bool = False,
    **members: Any,
) -> None:
    """Push and see that the worker gets it, and reports with these members."""
    if run_spec is not None or image_spec_allowed:
        if "secret" not in name:
            await make_repository(port.admin, name)
        policy = {"run_spec": run_spec, "image_spec_allowed": image_spec_allowed}
        await api(port.admin, "PATCH", f"/repositories/{quote(name, safe='')}", json=policy)
    digest = await port.push(image, repository=name)
    assert await port.state(digest, repository=name) == "pending"
    await run(worker, **members)


async def run(worker: ScriptedWorker, **members: Any) -> None:
    assert (await worker.report(await worker.claim(mechanisms=SPEC_NEWS), **members)).status == 204


async def run_all(worker: ScriptedWorker) -> None:
    while (job := await worker.claim()) is not None:
        assert (await worker.report(job)).status == 204


async def age(port: Port, by: timedelta) -> None:
    async with port.database.write() as connection:
        past = (await connection.execute(select(db_time(-by)))).scalar_one()
        for table in (parts, runs):
            await connection.execute(update(table).values(finished_at=past))
        await connection.execute(update(trials).values(created_at=past, finished_at=past))
        await connection.execute(update(manifests).values(state_at=past))


async def trial(port: Port, repository: str, digest: str) -> Any:
    answer = await ask(port.admin, "GET", "/api/v1/trials", params={"image": repository, "digest": digest})
    return answer.json[0]
