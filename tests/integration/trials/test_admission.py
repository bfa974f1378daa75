"""The gate over HTTP: who reads which image when, and what the others are told."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import insert, select, update

from registry.db.content import manifest_contents, manifests, repositories, tags
from registry.db.events import events
from registry.db.types import db_time
from registry.trials.gate import ADMITTED
from registry.trials.grandfathering import grandfather_all
from registry.trials.waiting import OF_A_PLACE
from tests.kit.access import api, ask
from tests.kit.distribution import push_blob
from tests.kit.images import OCI_MANIFEST, Image, make_image
from tests.kit.trials import REPOSITORY, Port, open_port, tiny_image, tiny_index


def blobs_of(image: Image) -> list[str]:
    manifest = json.loads(image.manifest)
    return [manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]


async def judged(port: Port, image: Image, *, met: bool, tag: str = "1") -> str:
    """Push an image and let a worker report on it."""
    digest = await port.push(image, tag=tag)
    worker = await port.worker("one")
    job = await worker.claim()
    assert job["digest"] == digest
    await worker.report(job, met=met, exit_code=0 if met else 3)
    return digest


async def registry_token_client(port: Port, credential: str) -> aiohttp.ClientSession:
    """A client with a token of ``/token`` that was asked for pull only, as podman pull does."""
    basic = aiohttp.encode_basic_auth("admin", credential)
    async with (
        aiohttp.ClientSession(port.registry.url, headers={"Authorization": basic}) as session,
        session.get("/token", params={"scope": f"repository:{REPOSITORY}:pull"}) as response,
    ):
        token = (await response.json())["token"]
    client = aiohttp.ClientSession(port.registry.url, headers={"Authorization": f"Bearer {token}"})
    return await port.stack.enter_async_context(client)


async def test_a_good_image_is_for_everybody(port: Port) -> None:
    image = tiny_image()
    digest = await judged(port, image, met=True)
    for reference in ("1", digest):
        answer = await port.pull(reference)
        assert (answer.status, answer.body) == (200, image.manifest)
        assert "Warning" not in answer.headers
    for blob in blobs_of(image):
        assert (await ask(port.reader, "GET", f"/v2/{REPOSITORY}/blobs/{blob}")).status == 200


async def test_a_bad_image_is_refused_with_the_reason_and_an_address(port: Port) -> None:
    image = tiny_image()
    digest = await judged(port, image, met=False)
    (trial,) = await port.trials(digest)
    for reference in ("1", digest):
        answer = await port.pull(reference)
        assert answer.status == 403
        assert "Retry-After" not in answer.headers
        (error,) = answer.json["errors"]
        assert error["code"] == "DENIED"
        assert error["message"].startswith(
            f"{REPOSITORY}@{digest} failed its trial: expected: exit code is 0; seen: exit code 3"
        )
        assert f"(see {port.registry.url}/trials/{trial['id']})" in error["message"]
        assert "\n" not in error["message"]
        head = await ask(port.reader, "HEAD", f"/v2/{REPOSITORY}/manifests/{reference}")
        assert (head.status, head.body) == (403, b"")
    for blob in blobs_of(image):
        refused = await ask(port.reader, "GET", f"/v2/{REPOSITORY}/blobs/{blob}")
        assert refused.status == 403
        assert f"the image that names blob {blob} in {REPOSITORY} failed" in refused.body.decode()


async def test_refused_pulls_are_events(port: Port) -> None:
    digest = await judged(port, tiny_image(), met=False)
    for _ in range(3):
        await port.pull(digest)
    # Whose answer has no body: who looks for the reason finds it here.
    await ask(port.reader, "HEAD", f"/v2/{REPOSITORY}/manifests/{digest}")
    assert port.registry.services is not None
    await port.registry.services.refusals.flush(port.database)
    columns = (events.c.kind, events.c.repository, events.c.actor, events.c.address, events.c.data)
    query = select(*columns).order_by(events.c.id)
    async with port.database.read() as connection:
        rows = (await connection.execute(query)).all()
    refused = [row for row in rows if row.kind == "pull.refused"]
    assert [(row.repository, row.actor, row.address) for row in refused] == [
        (REPOSITORY, "admin", "127.0.0.1")
    ] * 2
    told = {one["action"]: one for one in (json.loads(row.data) for row in refused)}
    assert {action: one["count"] for action, one in told.items()} == {
        "GET v2:manifests": 3,
        "HEAD v2:manifests": 1,
    }
    for one in told.values():
        assert one["digest"] == digest
        assert "failed its trial: expected: exit code is 0" in one["reason"]
    kinds = [row.kind for row in rows]
    assert kinds.count("trial.finished") == 1
    assert kinds.count("verdict.changed") == 1


async def test_who_may_push_reads_what_he_pushed(port: Port) -> None:
    image = tiny_image()
    digest = await judged(port, image, met=False)
    for reference in ("1", digest):
        assert (await port.pull(reference, client=port.admin)).status == 200
    for blob in blobs_of(image):
        assert (await ask(port.admin, "GET", f"/v2/{REPOSITORY}/blobs/{blob}")).status == 200


async def test_it_is_the_credential_that_counts_and_not_what_its_token_was_asked_for(port: Port) -> None:
    digest = await judged(port, tiny_image(), met=False)
    pusher = await registry_token_client(port, port.registry.token)
    assert (await port.pull(digest, client=pusher)).status == 200
    body = {"name": "r", "scopes": [f"repository:{REPOSITORY}:pull"]}
    limited = (await ask(port.admin, "POST", "/api/v1/tokens", json=body)).json["token"]
    reader = await registry_token_client(port, limited)
    assert (await port.pull(digest, client=reader)).status == 403


async def test_a_pending_image_is_refused_until_later(port: Port) -> None:
    digest = await port.push(tiny_image())
    answer = await port.pull(digest)
    assert (answer.status, answer.headers["Retry-After"]) == (403, "15")
    assert "is still being tried" in answer.body.decode()
    assert (await port.pull(digest, client=port.admin)).status == 200


async def test_a_pull_waits_for_the_verdict(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url, gate_wait_seconds=30) as port:
        image = tiny_image()
        digest = await port.push(image)
        worker = await port.worker("one")
        blob = f"/v2/{REPOSITORY}/blobs/{blobs_of(image)[0]}"
        waiting = [
            asyncio.create_task(port.pull(digest)),
            asyncio.create_task(ask(port.reader, "GET", blob)),
        ]
        await asyncio.sleep(0.3)
        assert not any(task.done() for task in waiting)
        await worker.report(await worker.claim())
        assert [(await task).status for task in waiting] == [200, 200]


async def test_of_those_who_did_not_sign_in_only_some_wait_for_a_verdict(
    tmp_path: Path, database_url: str
) -> None:
    async with (
        open_port(tmp_path / "data", database_url, gate_wait_seconds=60) as port,
        port.registry.client(anonymous=True) as nobody,
    ):
        image = tiny_image()
        digest = await port.push(image)
        await api(port.admin, "PATCH", "/repositories/team%2Fapp", json={"visibility": "public"})
        worker = await port.worker("one")
        waiting = [asyncio.create_task(port.pull(digest, client=nobody)) for _ in range(OF_A_PLACE)]
        assert port.registry.services is not None
        room = port.registry.services.waiters
        async with asyncio.timeout(30):
            while room.count < OF_A_PLACE:  # noqa: ASYNC110  (nothing to wait on)
                await asyncio.sleep(0.01)
        assert room.count == OF_A_PLACE
        started = time.monotonic()
        answer = await port.pull(digest, client=nobody)
        assert (answer.status, answer.headers["Retry-After"]) == (403, "15")
        blob = await ask(nobody, "GET", f"/v2/{REPOSITORY}/blobs/{blobs_of(image)[0]}")
        assert blob.status == 403
        assert time.monotonic() - started < 50
        waiting.append(asyncio.create_task(port.pull(digest)))
        await asyncio.sleep(0.3)
        assert not any(task.done() for task in waiting)
        await worker.report(await worker.claim())
        assert {(await task).status for task in waiting} == {200}
        assert room.count == 0


async def test_a_wait_ends_with_a_refusal(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url, gate_wait_seconds=0.5) as port:
        digest = await port.push(tiny_image())
        started = time.monotonic()
        answer = await port.pull(digest)
        assert (answer.status, answer.headers["Retry-After"]) == (403, "15")
        assert time.monotonic() - started >= 0.5


async def test_a_warning_is_no_longer_than_the_standard_lets_it_be(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url, gate="warn") as port:
        digest = await port.push(tiny_image())
        await set_row(port, digest, state="fail", state_reason='a "long"\r\nX: é\\ ' * 1000)
        for _ in range(2):
            answer = await port.pull(digest)
            (warning,) = [value for name, value in answer.headers.items() if name == "Warning"]
            assert warning.startswith(f"299 - \"{REPOSITORY}@{digest} failed its trial: a 'long'")
            assert 900 < len(warning) <= 4096
            assert warning.count('"') == 2
            assert warning.isascii()
            assert "X" not in answer.headers


async def test_warn_says_so_in_a_header_and_blocks_nothing(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url, gate="warn") as port:
        digest = await port.push(tiny_image())
        answer = await port.pull(digest)
        assert answer.status == 200
        assert answer.headers["Warning"] == f'299 - "{REPOSITORY}@{digest} is still being tried"'
        worker = await port.worker("one")
        await worker.report(await worker.claim(), met=False, exit_code=3, tested='"quoted"')
        answer = await port.pull(digest)
        assert answer.status == 200
        assert answer.headers["Warning"].startswith(f'299 - "{REPOSITORY}@{digest} failed its trial: ')


async def test_off_says_nothing(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url, gate="off") as port:
        digest = await judged(port, tiny_image(), met=False)
        answer = await port.pull(digest)
        assert (answer.status, "Warning" in answer.headers) == (200, False)


@pytest.mark.parametrize("gate", ["off", "warn", "enforce"])
async def test_blocked_is_above_everything_and_everybody(
    tmp_path: Path, database_url: str, gate: str
) -> None:
    async with open_port(tmp_path / "data", database_url, gate=gate) as port:
        image = tiny_image()
        digest = await judged(port, image, met=True)
        body = {"image": f"{REPOSITORY}:1", "reason": "holds a private key"}
        assert (await ask(port.reader, "POST", "/api/v1/gate/block", json=body)).status == 403
        assert (await ask(port.admin, "POST", "/api/v1/gate/block", json=body)).status == 204
        for client in (port.reader, port.admin):
            for reference in ("1", digest):
                answer = await port.pull(reference, client=client)
                assert answer.status == 403
                assert "is blocked: holds a private key" in answer.body.decode()
            for blob in blobs_of(image):
                assert (await ask(client, "GET", f"/v2/{REPOSITORY}/blobs/{blob}")).status == 403
        assert await port.state(digest) == "blocked"
        unblock = {"image": f"{REPOSITORY}@{digest}"}
        assert (await ask(port.admin, "POST", "/api/v1/gate/unblock", json=unblock)).status == 204
        assert (await port.pull(digest)).status == 200


async def test_a_block_is_not_lifted_by_deleting_and_pushing_again(port: Port) -> None:
    image = tiny_image()
    digest = await judged(port, image, met=True)
    body = {"image": f"{REPOSITORY}@{digest}"}
    await ask(port.admin, "POST", "/api/v1/gate/block", json=body | {"reason": "holds a private key"})
    answer = await ask(port.admin, "DELETE", f"/v2/{REPOSITORY}/manifests/{digest}")
    assert (answer.status, "is blocked" in answer.body.decode()) == (403, True)
    assert (await ask(port.admin, "DELETE", f"/v2/{REPOSITORY}/manifests/1")).status == 202
    await port.push(image, tag="2")
    assert [await port.state(reference) for reference in ("2", digest)] == ["blocked", "blocked"]
    assert (await ask(port.admin, "POST", "/api/v1/gate/unblock", json=body)).status == 204
    assert (await ask(port.admin, "DELETE", f"/v2/{REPOSITORY}/manifests/{digest}")).status == 202


async def test_a_blob_is_for_readers_if_any_admitted_image_names_it(port: Port) -> None:
    bad = tiny_image()
    layer = bad.layers[0]
    good = make_image(layer, config={"Cmd": ["/app"], "Env": ["OTHER=1"]})
    await judged(port, bad, met=False, tag="bad")
    shared = f"/v2/{REPOSITORY}/blobs/{layer.digest}"
    assert (await ask(port.reader, "GET", shared)).status == 403
    await judged(port, good, met=True, tag="good")
    assert (await ask(port.reader, "GET", shared)).status == 200
    own = f"/v2/{REPOSITORY}/blobs/{blobs_of(bad)[0]}"
    assert (await ask(port.reader, "GET", own)).status == 403


async def test_a_blob_that_no_image_names_is_for_who_may_push(port: Port) -> None:
    digest = await push_blob(port.admin, REPOSITORY, b"loose")
    path = f"/v2/{REPOSITORY}/blobs/{digest}"
    assert (await ask(port.admin, "GET", path)).status == 200
    refused = await ask(port.reader, "GET", path)
    assert refused.status == 403
    assert "no admitted image of the repository names it" in refused.body.decode()


async def test_a_refused_image_cannot_be_mounted_elsewhere_by_a_reader(port: Port) -> None:
    image = tiny_image()
    await judged(port, image, met=False)
    body = {"name": "m", "scopes": [f"repository:{REPOSITORY}:pull", "repository:mine/*:pull,push"]}
    token = (await ask(port.admin, "POST", "/api/v1/tokens", json=body)).json["token"]
    async with port.registry.client(token) as client:
        query = {"mount": image.layers[0].digest, "from": REPOSITORY}
        answer = await ask(client, "POST", "/v2/mine/copy/blobs/uploads/", params=query)
        assert answer.status == 202
        path = f"/v2/mine/copy/blobs/{image.layers[0].digest}"
        assert (await ask(client, "HEAD", path)).status == 404


async def test_an_index_that_passes_does_not_open_a_child_that_does_not(port: Port) -> None:
    index, (image, foreign) = tiny_index("linux/amd64", "linux/s390x")
    digest = await port.push(index)
    worker = await port.worker("one")
    await worker.report(await worker.claim())
    assert [(await port.pull(one)).status for one in (digest, image.digest, foreign.digest)] == [
        200,
        200,
        403,
    ]


async def set_row(port: Port, digest: str, **values: Any) -> None:
    async with port.database.write() as connection:
        await connection.execute(update(manifests).where(manifests.c.digest == digest).values(**values))


async def test_images_from_before_the_gate_stay_for_a_while(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url, gate="off", trial_on_push=False) as port:
        old = await port.push(tiny_image(), tag="old")
        change = {"gate": "enforce", "trial_on_push": True}
        path = f"/api/v1/repositories/{REPOSITORY.replace('/', '%2F')}"
        assert (await ask(port.admin, "PATCH", path, json=change)).status == 200
        assert await port.state(old) == "grandfathered"
        assert (await port.pull(old)).status == 200
        new = await port.push(tiny_image(), tag="new")
        assert (await port.pull(new)).status == 403
        await set_row(port, old, grandfathered_until=db_time(timedelta(seconds=-1)))
        refused = await port.pull(old)
        assert refused.status == 403
        assert "was never tried" in refused.body.decode()


async def test_grandfathering_leaves_verdicts_alone(port: Port) -> None:
    bad = await judged(port, tiny_image(), met=False, tag="bad")
    waiting = await port.push(tiny_image(), tag="waiting")
    async with port.database.write() as connection:
        repository_id = (await connection.execute(select(repositories.c.id))).scalar_one()
        assert await grandfather_all(connection, repository_id, 30) == 1
    assert [await port.state(one) for one in (bad, waiting)] == ["fail", "grandfathered"]
    # Admitted until it is judged, and by another question than the one that was on its way.
    path = f"/api/v1/repositories/{REPOSITORY.replace('/', '%2F')}"
    spec = {"run_spec": {"version": 1, "expect": {"exit": 0}}}
    assert (await ask(port.admin, "PATCH", path, json=spec)).status == 200
    worker = await port.worker("two")
    while (job := await worker.claim()) is not None:
        await worker.report(job, met=False, exit_code=3)
    assert await port.state(waiting) == "fail"


@pytest.mark.parametrize("gate", ["enforce", "hold"])
async def test_a_gate_over_a_thousand_imported_images_stops_nobody(
    tmp_path: Path, database_url: str, gate: str
) -> None:
    async with open_port(tmp_path / "data", database_url, gate="warn") as port:
        await port.push(tiny_image())
        states = ("untried", "unsupported", "pending", "not-applicable", "pass")
        rows = [
            {"digest": f"sha256:{number:064x}", "state": states[number % len(states)]}
            for number in range(1000)
        ]
        async with port.database.write() as connection:
            repository_id = (await connection.execute(select(repositories.c.id))).scalar_one()
            contents = [{"digest": row["digest"], "raw": b"{}"} for row in rows]
            await connection.execute(insert(manifest_contents), contents)
            imported = insert(manifests).values(
                repository_id=repository_id, media_type=OCI_MANIFEST, size=2, runnable=True,
                state_at=db_time(), pushed_at=db_time(), platform="linux/amd64",
            )  # fmt: skip
            await connection.execute(imported, rows)
            tagged = insert(tags).values(repository_id=repository_id, updated_at=db_time(), updated_by="a")
            found = await connection.execute(select(manifests.c.id, manifests.c.digest))
            await connection.execute(
                tagged, [{"name": row.digest[-20:], "manifest_id": row.id} for row in found]
            )
        path = f"/api/v1/repositories/{REPOSITORY.replace('/', '%2F')}"
        assert (await ask(port.admin, "PATCH", path, json={"gate": gate})).status == 200
        stopped = select(manifests.c.id).where(manifests.c.state.not_in(ADMITTED))
        async with port.database.read() as connection:
            assert (await connection.execute(stopped)).all() == []
        for row in rows[:10]:
            for reference in (row["digest"], row["digest"][-20:]):
                answer = await port.pull(reference)
                assert (answer.status, "Warning" in answer.headers) == (200, False), row
        # What comes from now on has to be tried, and going on to hold admits nothing that enforce refused.
        new = await port.push(tiny_image(), tag="new")
        assert (await ask(port.admin, "PATCH", path, json={"gate": "hold"})).status == 200
        assert await port.state(new) == "pending"


async def test_a_verdict_too_old_holds_until_the_image_was_tried_again(
    tmp_path: Path, database_url: str
) -> None:
    async with open_port(tmp_path / "data", database_url, verdict_max_age_days=1) as port:
        digest = await judged(port, tiny_image(), met=True)
        worker = await port.worker("two")
        assert await worker.claim() is None
        async with port.database.write() as connection:
            old = db_time(timedelta(days=-2))
            await connection.execute(update(manifests).values(state_at=old))
            await connection.exec_driver_sql("UPDATE trials SET created_at = created_at - 172800000000")
        assert await port.state(digest) == "expired"
        # Many readers, one new trial.
        answers = await asyncio.gather(*(port.pull(digest) for _ in range(5)))
        assert [answer.status for answer in answers] == [200] * 5
        assert await port.state(digest) == "expired"
        job = await worker.claim()
        assert job["digest"] == digest
        assert await worker.claim() is None
        await worker.report(job, met=False, exit_code=1)
        assert await port.state(digest) == "fail"
        assert (await port.pull(digest)).status == 403
