"""Indexes that are pushed before what they list: nobody knows them to be good until all of it was tried."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import delete, func, select, update

from registry.content import repositories
from registry.db.content import manifests
from registry.db.events import events
from registry.db.trials import trials
from tests.kit.access import ask
from tests.kit.distribution import push_blob, put_manifest, small_index
from tests.kit.images import OCI_INDEX, OCI_MANIFEST, Image, descriptor, digest_of, make_index, to_json
from tests.kit.plans import sent
from tests.kit.postgres import until_somebody_waits
from tests.kit.trials import REPOSITORY, Port, open_port, tiny_image, tiny_index

MANY = 20


async def put_index(port: Port, index: Image, tag: str = "1") -> str:
    """Push an index and nothing of what it lists; returns its digest."""
    answer = await put_manifest(port.admin, REPOSITORY, tag, index.manifest, OCI_INDEX)
    assert answer.status == 201, answer.body
    return index.digest


async def explain(port: Port, reference: str) -> str:
    """Why the gate sees an image as it does."""
    params = {"image": f"{REPOSITORY}@{reference}"}
    answer = await ask(port.admin, "GET", "/api/v1/gate", params=params)
    return str(answer.json["reason"])


async def test_it_is_tried_when_its_last_child_has_come(port: Port) -> None:
    index, (one, two) = tiny_index("linux/amd64", "linux/s390x")
    digest = await put_index(port, index)
    assert await port.state(digest) == "untried"
    assert "which it is made of, is not in the repository" in await explain(port, digest)
    refused = await port.pull("1")
    assert (refused.status, "was never tried" in refused.body.decode()) == (403, True)
    worker = await port.worker("one")
    # The good platform alone admits nothing: what is missing may be the worst.
    await port.push(one, tag="one")
    await worker.report(await worker.claim())
    assert await port.state(one.digest) == "pass"
    assert await port.state(digest) == "untried"
    assert two.digest in await explain(port, digest)
    assert await port.trials(digest) == []
    assert (await port.pull("1")).status == 403
    assert (await port.pull("1", client=port.admin)).status == 200
    await port.push(two, tag="two")
    (trial,) = await port.trials(digest)
    assert {part["digest"] for part in trial["parts"]} == {one.digest, two.digest}
    assert (trial["verdict"], await port.state(digest)) == ("pass", "pass")
    assert (await port.pull("1")).status == 200


async def test_a_child_that_fails_fails_the_index_that_waited_for_it(port: Port) -> None:
    index, (image,) = tiny_index("linux/amd64")
    digest = await put_index(port, index)
    child = await put_child_by_digest(port, image)
    assert await port.state(digest) == "pending"
    worker = await port.worker("one")
    job = await worker.claim()
    assert job["digest"] == child
    await worker.report(job, met=False, exit_code=1)
    assert [await port.state(one) for one in (digest, child)] == ["fail", "fail"]
    assert await worker.claim() is None


async def put_child_by_digest(port: Port, image: Image) -> str:
    """Push an image without a tag; returns its digest."""
    return await port.push(image, tag=image.digest)


async def test_indexes_of_indexes_wait_for_the_lowest(port: Port) -> None:
    inner, (image,) = tiny_index("linux/amd64")
    listed = descriptor(inner.manifest, OCI_INDEX)
    outer = to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed]})
    assert (await put_manifest(port.admin, REPOSITORY, "outer", outer, OCI_INDEX)).status == 201
    await put_index(port, inner, "inner")
    states = [await port.state(one) for one in (digest_of(outer), inner.digest)]
    assert states == ["untried", "untried"]
    await put_child_by_digest(port, image)
    worker = await port.worker("one")
    await worker.report(await worker.claim())
    states = [await port.state(one) for one in (digest_of(outer), inner.digest, image.digest)]
    assert states == ["pass", "pass", "pass"]


async def test_a_child_elsewhere_is_missing_here(port: Port) -> None:
    index, (image,) = tiny_index("linux/amd64")
    await port.push(image, repository="team/other")
    worker = await port.worker("one")
    await worker.report(await worker.claim())
    digest = await put_index(port, index)
    assert await port.state(digest) == "untried"
    await port.push(image, repository="team/third")
    assert await port.state(digest) == "untried"


async def test_the_bytes_of_a_child_as_a_blob_are_no_child(port: Port) -> None:
    index, (image,) = tiny_index("linux/amd64")
    await push_blob(port.admin, REPOSITORY, image.manifest)
    digest = await put_index(port, index)
    assert await port.state(digest) == "untried"
    # Listed as something else, a blob is what it is, until somebody pushes it as a manifest.
    odd = descriptor(image.manifest, "application/x-document")
    raw = to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [odd]})
    assert (await put_manifest(port.admin, REPOSITORY, "odd", raw, OCI_INDEX)).status == 201
    assert await port.state(digest_of(raw)) == "not-applicable"
    await put_child_by_digest(port, image)
    assert [await port.state(one) for one in (digest, digest_of(raw))] == ["pending", "pending"]


async def test_an_image_listed_as_a_foreign_layer_is_an_image(port: Port) -> None:
    image = tiny_image()
    odd = descriptor(image.manifest, "application/vnd.oci.image.layer.nondistributable.v1.tar")
    raw = to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [odd]})
    assert (await put_manifest(port.admin, REPOSITORY, "odd", raw, OCI_INDEX)).status == 201
    assert await port.state("odd") == "not-applicable"
    await put_child_by_digest(port, image)
    assert await port.state("odd") == "pending"
    again = to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [odd, odd]})
    assert (await put_manifest(port.admin, REPOSITORY, "again", again, OCI_INDEX)).status == 201
    worker = await port.worker("one")
    await worker.report(await worker.claim(), met=False, exit_code=1)
    assert [(await port.pull(tag)).status for tag in ("odd", "again")] == [403, 403]


async def test_more_indexes_than_one_push_decides_about(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.trials.parents.PARENTS_MAX", 2)
    image, good = tiny_image(), tiny_image()
    worker = await port.worker("one")
    await port.push(good, tag="good")
    await worker.report(await worker.claim())
    await push_blob(port.admin, REPOSITORY, image.manifest)
    odd = descriptor(image.manifest, "application/x-document")
    listed = descriptor(good.manifest, OCI_MANIFEST)
    inner = to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [odd]})
    outer = to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(inner, OCI_INDEX)]})
    mixed = to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [odd, listed]})
    more = [
        to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [odd], "annotations": {"n": n}})
        for n in "123"
    ]
    indexes = [inner, outer, mixed, *more]
    for number, raw in enumerate(indexes):
        assert (await put_manifest(port.admin, REPOSITORY, f"{number}", raw, OCI_INDEX)).status == 201
        assert (await port.pull(f"{number}")).status == 200
    await put_child_by_digest(port, image)
    await worker.report(await worker.claim(), met=False, exit_code=1)
    assert {(await port.pull(f"{number}")).status for number in range(len(indexes))} == {403}
    states = [await port.state(digest_of(raw)) for raw in indexes]
    assert sorted(states) == ["fail", "fail", *["untried"] * 4]
    # As its reason says, such an index is tried when it is pushed again.
    again = states.index("untried")
    assert "push this one again" in await explain(port, digest_of(indexes[again]))
    assert (await put_manifest(port.admin, REPOSITORY, "again", indexes[again], OCI_INDEX)).status == 201
    assert await port.state("again") == "fail"


async def test_larger_indexes_than_one_push_looks_at(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.trials.parents.LISTED_MAX", 4)
    image = tiny_image()
    digests = []
    for n in "123":
        index = small_index(image.manifest, annotations={"n": n})
        assert (await put_manifest(port.admin, REPOSITORY, n, index, OCI_INDEX)).status == 201
        digests.append(digest_of(index))
    await put_child_by_digest(port, image)
    states = [await port.state(digest) for digest in digests]
    assert sorted(states) == ["pending", "pending", "untried"]
    left = states.index("untried")
    assert "push this one again" in await explain(port, digests[left])
    index = small_index(image.manifest, annotations={"n": "123"[left]})
    assert (await put_manifest(port.admin, REPOSITORY, "again", index, OCI_INDEX)).status == 201
    assert await port.state("again") == "pending"


async def test_an_index_of_nothing_that_runs_is_not_applicable_when_complete(port: Port) -> None:
    signature = to_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(b"{}", "application/vnd.oci.empty.v1+json"),
            "layers": [],
        }
    )
    index = small_index(signature)
    assert (await put_manifest(port.admin, REPOSITORY, "1", index, OCI_INDEX)).status == 201
    assert await port.state("1") == "untried"
    await push_blob(port.admin, REPOSITORY, b"{}")
    assert (await put_manifest(port.admin, REPOSITORY, digest_of(signature), signature)).status == 201
    assert await port.state("1") == "not-applicable"
    assert (await port.pull("1")).status == 200


async def test_a_child_deleted_while_it_waits_comes_back(port: Port) -> None:
    index, (image,) = tiny_index("linux/amd64")
    digest = await port.push(index)
    worker = await port.worker("one")
    job = await worker.claim()
    deleted = await ask(port.admin, "DELETE", f"/v2/{REPOSITORY}/manifests/{image.digest}")
    assert deleted.status == 202
    await worker.report(job, **no_image())
    assert await port.state(digest) == "error"
    start = {"image": f"{REPOSITORY}@{digest}"}
    answer = await ask(port.admin, "POST", "/api/v1/trials", json=start)
    assert answer.status == 409
    assert image.digest in answer.body.decode()
    await put_child_by_digest(port, image)
    assert await port.state(digest) == "pending"
    await worker.report(await worker.claim())
    assert [await port.state(one) for one in (digest, image.digest)] == ["pass", "pass"]


async def test_a_child_deleted_after_the_verdict_changes_none(port: Port) -> None:
    index, (image,) = tiny_index("linux/amd64")
    digest = await port.push(index)
    worker = await port.worker("one")
    await worker.report(await worker.claim())
    for _ in range(2):
        await ask(port.admin, "DELETE", f"/v2/{REPOSITORY}/manifests/{image.digest}")
        assert await port.state(digest) == "pass"
        await put_child_by_digest(port, image)
        assert [await port.state(one) for one in (digest, image.digest)] == ["pass", "pass"]
    assert len(await port.trials(digest)) == 1
    assert await worker.claim() is None


async def test_a_changed_policy_asks_nothing_of_an_index_that_lost_a_child(port: Port) -> None:
    index, (image,) = tiny_index("linux/amd64")
    digest = await port.push(index)
    await ask(port.admin, "DELETE", f"/v2/{REPOSITORY}/manifests/{image.digest}")
    changed = await ask(
        port.admin,
        "PATCH",
        f"/api/v1/repositories/{quote(REPOSITORY, safe='')}",
        json={"image_spec_allowed": True},
    )
    assert changed.status == 200, changed.body
    assert await port.state(digest) == "untried"


async def test_index_and_child_at_once(port: Port) -> None:
    worker = await port.worker("one")
    for number in range(6):
        index, (image,) = tiny_index("linux/amd64")
        for layer in image.layers:
            await push_blob(port.admin, REPOSITORY, layer.blob)
        await push_blob(port.admin, REPOSITORY, image.config)
        tag = image.digest if number % 2 else f"child{number}"
        first, second = await asyncio.gather(
            put_manifest(port.admin, REPOSITORY, f"index{number}", index.manifest, OCI_INDEX),
            put_manifest(port.admin, REPOSITORY, tag, image.manifest),
        )
        assert (first.status, second.status) == (201, 201)
        (trial,) = await port.trials(index.digest)
        assert [part["digest"] for part in trial["parts"]] == [image.digest]
        await worker.report(await worker.claim())
        assert await port.state(index.digest) == "pass"
    assert await worker.claim() is None


@pytest.mark.parametrize("index_first", [True, False])
async def test_index_and_child_wait_for_each_other(
    tmp_path: Path, make_postgres_url: Callable[[], str], index_first: bool
) -> None:
    """In either order, both after somebody else has changed the repository."""
    async with open_port(tmp_path / "data", make_postgres_url()) as port:
        index, (image,) = tiny_index("linux/amd64")
        await push_blob(port.admin, REPOSITORY, image.layers[0].blob)
        await push_blob(port.admin, REPOSITORY, image.config)
        pushes = [(index.manifest, OCI_INDEX), (image.manifest, OCI_MANIFEST)]
        if not index_first:
            pushes.reverse()
        repository = await repositories.find(port.database, REPOSITORY)
        assert repository is not None
        waiting = []
        async with port.database.write() as holder:
            await repositories.lock(holder, repository.id)
            for raw, media_type in pushes:
                push = put_manifest(port.admin, REPOSITORY, digest_of(raw), raw, media_type)
                waiting.append(asyncio.ensure_future(push))
                await until_somebody_waits(port.database, holder, count=len(waiting))
        assert [answer.status for answer in await asyncio.gather(*waiting)] == [201, 201]
        (trial,) = await port.trials(index.digest)
        assert [part["digest"] for part in trial["parts"]] == [image.digest]
        worker = await port.worker("one")
        await worker.report(await worker.claim())
        assert [await port.state(one) for one in (index.digest, image.digest)] == ["pass", "pass"]


async def test_an_index_that_was_overlooked_is_tried_when_it_is_pushed_again(port: Port) -> None:
    index, (image,) = tiny_index("linux/amd64")
    digest = await put_index(port, index)
    await put_child_by_digest(port, image)
    async with port.database.write() as connection:
        # As an older version leaves it, which only takes the child.
        await connection.execute(delete(trials).where(trials.c.digest == digest))
        await connection.execute(
            update(manifests).where(manifests.c.digest == digest).values(state="untried")
        )
    await put_index(port, index)
    (trial,) = await port.trials(digest)
    assert (trial["state"], await port.state(digest)) == ("queued", "pending")
    await put_index(port, index)
    assert len(await port.trials(digest)) == 1


async def test_one_child_that_many_wait_for(port: Port) -> None:
    image = tiny_image()
    for number in range(MANY):
        index = small_index(image.manifest, annotations={"n": str(number)})
        assert (await put_manifest(port.admin, REPOSITORY, "1", index, OCI_INDEX)).status == 201
    await put_child_by_digest(port, image)
    count = select(manifests.c.state, func.count()).group_by(manifests.c.state)
    worker = await port.worker("one")
    async with port.database.read() as connection:
        assert (await connection.execute(count)).all() == [("pending", MANY + 1)]
        opened = await connection.execute(select(func.count()).select_from(trials))
        assert opened.scalar_one() == MANY + 1
    await worker.report(await worker.claim())
    async with port.database.read() as connection:
        assert (await connection.execute(count)).all() == [("pass", MANY + 1)]


async def test_a_verdict_costs_as_many_statements_for_many_indexes_as_for_one(port: Port) -> None:
    worker = await port.worker("one")
    counts = []
    for count in (1, MANY):
        image = tiny_image()
        await put_child_by_digest(port, image)
        for number in range(count):
            index = small_index(image.manifest, annotations={"n": str(number)})
            assert (await put_manifest(port.admin, REPOSITORY, "1", index, OCI_INDEX)).status == 201
        job = await worker.claim()
        with sent() as statements:
            assert (await worker.report(job, met=False, exit_code=1)).status == 204
        counts.append(len(statements))
    # What there is may fill more statements, but never one for each index.
    assert counts[1] - counts[0] < MANY // 2, counts
    tried = select(manifests.c.state, func.count()).where(manifests.c.attestation_id.is_(None))
    kinds = select(events.c.kind, func.count()).group_by(events.c.kind)
    async with port.database.read() as connection:
        assert (await connection.execute(tried.group_by(manifests.c.state))).all() == [("fail", MANY + 3)]
        found = {row[0]: row[1] for row in await connection.execute(kinds)}
    assert (found["trial.finished"], found["verdict.changed"]) == (MANY + 3, MANY + 3)


async def test_a_repository_that_tries_nothing_says_so(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url, trial_on_push=False) as port:
        index = make_index(image := tiny_image())
        digest = await put_index(port, index)
        await put_child_by_digest(port, image)
        assert await port.state(digest) == "untried"
        assert await explain(port, digest) == "the repository does not try what is pushed"


async def test_an_image_without_its_layer_is_tried_when_it_is_pushed_again(
    tmp_path: Path, database_url: str
) -> None:
    async with open_port(tmp_path / "data", database_url, sparse_images=True) as port:
        image = tiny_image()
        for missing in (image.config, image.layers[0].blob):
            answer = await put_manifest(port.admin, REPOSITORY, "1", image.manifest)
            assert answer.status == 201
            assert await port.state("1") == "untried"
            assert "which it is made of, is not in the repository" in await explain(port, image.digest)
            assert (await port.pull("1")).status == 403
            await push_blob(port.admin, REPOSITORY, missing)
        await put_index(port, make_index(image), "2")
        assert (await port.pull("2")).status == 403
        assert (await put_manifest(port.admin, REPOSITORY, "1", image.manifest)).status == 201
        assert await port.state("1") == "pending"
        worker = await port.worker("one")
        job = await worker.claim()
        assert job["platform"] == "linux/amd64"
        await worker.report(job)
        assert [await port.state(tag) for tag in ("1", "2")] == ["pass", "pass"]


async def test_an_image_whose_config_came_late_is_judged_for_its_index_too(
    tmp_path: Path, database_url: str
) -> None:
    async with open_port(tmp_path / "data", database_url, sparse_images=True) as port:
        bad, good = tiny_image(), tiny_image()
        worker = await port.worker("one")
        await push_blob(port.admin, REPOSITORY, bad.layers[0].blob)
        assert (await put_manifest(port.admin, REPOSITORY, "bad", bad.manifest)).status == 201
        await port.push(good, tag="good")
        await worker.report(await worker.claim())
        index = await put_index(port, make_index(good, bad), "index")
        # Nobody can run what has no config: the other platform decides.
        assert await port.state(index) == "pass"
        await push_blob(port.admin, REPOSITORY, bad.config)
        assert (await put_manifest(port.admin, REPOSITORY, "bad", bad.manifest)).status == 201
        await worker.report(await worker.claim(), met=False, exit_code=1)
        assert [await port.state(one) for one in (index, bad.digest)] == ["fail", "fail"]
        assert (await port.pull("index")).status == 403


def no_image() -> dict[str, object]:
    """The members of a report on an image that was gone when it was to be pulled."""
    error = {"reason": "pull-failed", "message": "it is gone", "retryable": False}
    return {"runs": [], "error": error}
