"""What is attached to an image as a referrer is expected of it as well, where the repository allows it."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import select

from registry.contract.isolation import SPEC_NEWS
from registry.contract.runspec import IMAGE_SPEC_TYPE
from registry.db.content import kept_documents
from tests.kit.access import api, ask, make_repository
from tests.kit.distribution import push_image
from tests.kit.images import make_referrer
from tests.kit.promoting import TO, promoted, refused
from tests.kit.trials import REPOSITORY, Port, ScriptedWorker, tiny_image, tiny_index

MUST_SAY = '{"version": 1, "expect": {"log": [{"match": "ready"}]}}'
MUST_END = "version: 1\nexpect: {exit: 0}\nlimits: {pids: 10}\n"


async def allow(port: Port, name: str = REPOSITORY) -> None:
    await make_repository(port.admin, name)
    place = f"/repositories/{name.replace('/', '%2F')}"
    await api(port.admin, "PATCH", place, json={"image_spec_allowed": True})


async def attach(
    port: Port,
    subject: str,
    *specs: str | bytes,
    repository: str = REPOSITORY,
    artifact_type: str = IMAGE_SPEC_TYPE,
) -> str:
    """Push a referrer with these as its layers, to an image that need not be there; returns its digest."""
    contents = [spec if isinstance(spec, bytes) else spec.encode() for spec in specs]
    referrer = make_referrer(subject, *contents, artifact_type=artifact_type, media_type="application/yaml")
    return await push_image(port.admin, repository, referrer.digest, referrer)


async def claim(worker: ScriptedWorker) -> Any:
    return await worker.claim(mechanisms=SPEC_NEWS)


async def test_referrers_of_an_image_and_of_its_index_add_to_what_is_expected(port: Port) -> None:
    await allow(port)
    worker, old = await port.worker("one"), await port.worker("old")
    index, (image, _) = tiny_index("linux/amd64", "linux/s390x")
    # One is there before its image, one comes before a worker has taken the trial.
    first = await attach(port, image.digest, MUST_SAY)
    digest = await port.push(index)
    second = await attach(port, digest, MUST_END)
    await attach(port, digest, MUST_SAY, artifact_type="text/plain")

    assert await old.claim() is None
    assert await old.claim(mechanisms=["run-spec secrets", "run-spec services", "run-spec stubs"]) is None
    (trial,) = await port.trials(digest)
    assert trial["reason"] == "waits for a worker that has run-spec referrers: none of 1 has"
    job = await claim(worker)
    assert [one["digest"] for one in job["image_specs"]] == [first, second]
    must_say, must_end = (one["spec"] for one in job["image_specs"])
    assert must_say["expect"]["log"][0]["match"] == "ready"
    assert (must_end["limits"]["pids"], must_end["expect"]["exit"]) == (10, 0)
    assert (await worker.report(job)).status == 204

    # What comes later changes nothing, until somebody asks for a trial again.
    third = await attach(port, image.digest, MUST_END)
    assert await claim(worker) is None
    await api(port.admin, "POST", "/trials", status=201, json={"image": f"{REPOSITORY}@{digest}"})
    job = await claim(worker)
    assert [one["digest"] for one in job["image_specs"]] == [first, second, third]
    assert (await worker.report(job)).status == 204
    # Nobody is asked for what is blocked.
    blocked = {"digest": third, "on": REPOSITORY, "reason": "not this one"}
    await api(port.admin, "POST", "/gate/blocks", status=201, json=blocked)
    await api(port.admin, "POST", "/trials", status=201, json={"image": f"{REPOSITORY}@{digest}"})
    job = await claim(worker)
    assert [one["digest"] for one in job["image_specs"]] == [first, second]
    assert (await worker.report(job)).status == 204


async def test_nothing_is_added_where_the_repository_does_not_allow_it(port: Port) -> None:
    worker = await port.worker("one")
    await attach(port, (image := tiny_image()).digest, "no: spec")
    await port.push(image)
    job = await worker.claim()
    assert "image_specs" not in job


BROKEN: tuple[tuple[list[bytes], str], ...] = (
    ([b"version: 1\nexpect: {exit: 0}\nenv: {A: {secret: DB}}\n"], "line 3, column 1: env: there is no such"),
    ([b"{version: 1, services: []}"], "services: there is no such key"),
    ([b"{version: 1, limits: {alive_seconds: 1}}"], "cannot choose how long it is watched"),
    ([b"a: &b [1]\nc: *b\n"], "aliases are not allowed"),
    ([MUST_SAY.encode(), MUST_END.encode()], "it has 2 layers, and the spec is the only one"),
    ([b"#" * (64 * 1024 + 1)], "it has 65537 bytes, and a run spec at most 65536"),
    ([b"\xff\xfe"], "it is no text in UTF-8"),
)


async def test_a_broken_one_is_an_error_that_names_it(port: Port) -> None:
    await allow(port)
    worker = await port.worker("one")
    for layers, said in BROKEN:
        image = tiny_image()
        broken = await attach(port, image.digest, *layers)
        digest = await port.push(image)
        assert await claim(worker) is None
        (trial,) = await port.trials(digest)
        assert trial["verdict"] == "error"
        assert trial["reason"].startswith(f"spec-invalid: the run spec attached to the image as {broken}: ")
        assert said in trial["reason"]
    # Whoever may delete it can have the image tried without it.
    assert (await ask(port.admin, "DELETE", f"/v2/{REPOSITORY}/manifests/{broken}")).status == 202
    await api(port.admin, "POST", "/trials", status=201, json={"image": f"{REPOSITORY}@{digest}"})
    assert "image_specs" not in await worker.claim()


async def test_too_many_and_one_that_is_gone_are_errors(port: Port) -> None:
    await allow(port)
    worker, image = await port.worker("one"), tiny_image()
    digest = await port.push(image)
    attached = [await attach(port, digest, MUST_SAY + " " * number) for number in range(5)]
    assert await claim(worker) is None
    assert (await port.trials(digest))[0]["reason"] == (
        "spec-invalid: more than 4 run specs are attached to the image; delete some of them, and start the "
        "trial again"
    )
    await ask(port.admin, "DELETE", f"/v2/{REPOSITORY}/manifests/{attached.pop()}")
    await api(port.admin, "POST", "/trials", status=201, json={"image": f"{REPOSITORY}@{digest}"})
    await ask(port.admin, "DELETE", f"/v2/{REPOSITORY}/manifests/{attached[0]}")
    assert await claim(worker) is None
    assert (await port.trials(digest))[0]["reason"] == (
        f"spec-invalid: the run spec attached to the image as {attached[0]}: it is gone; start the trial "
        "again"
    )


async def test_a_verdict_counts_elsewhere_only_under_the_same_referrers(port: Port) -> None:
    image, worker = tiny_image(), await port.worker("one")
    for name in (REPOSITORY, "team/less", "team/same", TO):
        await allow(port, name)
    spec = {"run_spec": {"version": 1, "expect": {"exit": 0}}}
    for name in ("team%2Fapp", "team%2Fless", "team%2Fsame", TO.replace("/", "%2F")):
        await api(port.admin, "PATCH", f"/repositories/{name}", json=spec)
    digest = image.digest
    for name in (REPOSITORY, "team/same"):
        attached = await attach(port, digest, MUST_SAY, repository=name)
    await port.push(image)
    assert (await worker.report(await claim(worker))).status == 204
    # What is judged anew was run under what is attached there.
    await port.push(image, repository="team/same")
    await port.push(image, repository="team/less")
    assert await port.state(digest, repository="team/same") == "pass"
    assert await port.state(digest, repository="team/less") == "pending"
    assert (await worker.report(await claim(worker))).status == 204
    # The attestation names the referrer.
    async with port.database.read() as connection:
        contents = (await connection.execute(select(kept_documents.c.content))).scalars().all()
    named = [json.loads(one) for one in contents if "image_specs" in one]
    assert {one["image_specs"][0] for one in named} == {attached}
    # So is what is promoted, with its referrers; not to where more is attached to it.
    other = await attach(port, digest, MUST_END, repository=TO)
    said = f"linux/amd64 ({digest}): other run specs are attached to it in {TO}: push it there"
    assert await refused(port) == [said]
    assert (await ask(port.admin, "DELETE", f"/v2/{TO}/manifests/{other}")).status == 202
    assert (await promoted(port))["standing"] == "promoted"
    assert await port.state("1", repository=TO) == "pass"
