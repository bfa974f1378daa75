"""What is brought from elsewhere is admitted for a time and tried behind pushes, where a maintainer says so;
and nobody gets past the gate by saying it himself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select, update

from registry.db.content import manifests
from registry.db.types import db_time
from registry.main import run
from tests.kit.access import (
    ask,
    basic,
    bearer,
    give_role,
    make_repository,
    make_token,
    make_user,
    registry_token,
)
from tests.kit.distribution import push_image, put_manifest
from tests.kit.images import Image
from tests.kit.trials import REPOSITORY, Port, open_port, tiny_image, tiny_index

HEADER = "Seatrial-Grandfathered-Until"


def coming(**time: float) -> str:
    return (datetime.now(UTC) + timedelta(**time)).isoformat()


@asynccontextmanager
async def bringing(
    port: Port, headers: dict[str, str], until: str | None = None
) -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody who says of all that he pushes that it comes from elsewhere."""
    headers = headers | {HEADER: until or coming(days=20)}
    async with aiohttp.ClientSession(port.registry.url, headers=headers) as client:
        yield client


def admin(port: Port) -> dict[str, str]:
    return bearer(port.registry.token)


async def row(port: Port, digest: str) -> Any:
    async with port.database.read() as connection:
        return (await connection.execute(select(manifests).where(manifests.c.digest == digest))).one()


async def test_it_is_admitted_and_tried_behind_pushes(port: Port) -> None:
    old, bad, new = tiny_image(), tiny_image(), tiny_image()
    async with bringing(port, admin(port)) as client:
        for tag, image in (("old", old), ("bad", bad)):
            await push_image(client, REPOSITORY, tag, image)
    await port.push(new, tag="new")
    for image in (old, bad):
        assert await port.state(image.digest) == "grandfathered"
        assert (await port.pull(image.digest)).status == 200
    assert (await port.pull("new")).status == 403
    assert (await row(port, old.digest)).state_reason == "it was brought from elsewhere"
    worker = await port.worker("one")
    # What was pushed last is tried first.
    jobs = [await worker.claim() for _ in range(3)]
    assert [job["digest"] for job in jobs] == [new.digest, old.digest, bad.digest]
    assert (await worker.report(jobs[1])).status == 204
    assert (await worker.report(jobs[2], met=False, exit_code=1)).status == 204
    assert [await port.state(one.digest) for one in (old, bad)] == ["pass", "fail"]
    assert [(await port.pull(one.digest)).status for one in (old, bad)] == [200, 403]


async def test_the_date_comes(port: Port) -> None:
    image = tiny_image()
    async with bringing(port, admin(port)) as client:
        await push_image(client, REPOSITORY, "old", image)
    left = (await row(port, image.digest)).grandfathered_until - datetime.now(UTC)
    assert timedelta(days=19) < left < timedelta(days=21)
    async with port.database.write() as connection:
        await connection.execute(update(manifests).values(grandfathered_until=db_time(timedelta(seconds=-1))))
    refused = await port.pull("old")
    assert refused.status == 403
    assert "was never tried" in refused.body.decode()
    assert "brought from elsewhere" in str((await gate(port, "old"))["reason"])


async def gate(port: Port, tag: str) -> Any:
    answer = await ask(port.admin, "GET", "/api/v1/gate", params={"image": f"{REPOSITORY}:{tag}"})
    assert answer.status == 200, answer.body
    return answer.json


async def test_what_nobody_runs_or_tries_is_admitted_as_well(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url) as port:
        await make_repository(port.admin, REPOSITORY, gate="hold", trial_tags=["v*"])
        index, children = tiny_index("linux/amd64", "linux/s390x")
        other, untried = tiny_image("linux/s390x"), tiny_image()
        async with bringing(port, admin(port)) as client:
            await push_image(client, REPOSITORY, "v1", index)
            await push_image(client, REPOSITORY, "v2", other)
            await push_image(client, REPOSITORY, "dev", untried)
        for digest in (index.digest, *(one.digest for one in children), other.digest, untried.digest):
            assert await port.state(digest) == "grandfathered"
        for tag in ("v1", "v2", "dev"):
            assert (await port.pull(tag)).status == 200
        worker = await port.worker("one")
        assert (await worker.report(await worker.claim(), met=False, exit_code=1)).status == 204
        assert await worker.claim() is None
        assert await port.state(index.digest) == "fail"
        assert await port.state(other.digest) == "grandfathered"


async def test_nobody_gets_past_the_gate(port: Port) -> None:
    """Who may push, but not configure: neither by role, nor by the scopes of a token."""
    await make_repository(port.admin, REPOSITORY)
    password = await make_user(port.admin, "bob")
    await give_role(port.admin, REPOSITORY, "user:bob", "writer")
    narrow = await make_token(port.admin, "repository:team/*:pull,push")
    bob = basic("bob", password)
    async with port.registry.client(anonymous=True) as nobody:
        issued = await registry_token(nobody, f"repository:{REPOSITORY}:pull,push", headers=admin(port))
    for number, headers in enumerate((bob, bearer(narrow["token"]), bearer(issued))):
        image = tiny_image()
        async with bringing(port, headers) as client:
            await push_blobs(client, image)
            answer = await put_manifest(client, REPOSITORY, f"t{number}", image.manifest)
            assert answer.status == 403, answer.body
            assert "maintainer" in answer.body.decode()
        assert (await ask(port.admin, "GET", f"/v2/{REPOSITORY}/manifests/t{number}")).status == 404
    await give_role(port.admin, REPOSITORY, "user:bob", "maintainer")
    async with bringing(port, bob) as client:
        await push_image(client, REPOSITORY, "t", tiny_image())
    assert await port.state("t") == "grandfathered"


async def push_blobs(client: aiohttp.ClientSession, image: Image) -> None:
    for blob in image.blobs().values():
        if blob != image.manifest:
            async with client.post(f"/v2/{REPOSITORY}/blobs/uploads/") as begun:
                location = begun.headers["Location"]
            digest = next(one for one, content in image.blobs().items() if content == blob)
            async with client.put(location, params={"digest": digest}, data=blob) as done:
                assert done.status == 201


async def test_a_push_that_makes_the_repository_is_refused_whole(port: Port) -> None:
    password = await make_user(port.admin, "bob")
    await make_repository(port.admin, "team/other")
    await give_role(port.admin, "team/", "user:bob", "writer")
    raw = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
    async with bringing(port, basic("bob", password)) as client:
        answer = await put_manifest(client, "team/fresh", "1", raw, "application/vnd.oci.image.index.v1+json")
        assert answer.status == 403, answer.body
    assert (await ask(port.admin, "GET", "/api/v1/repositories/team%2Ffresh")).status == 404


async def test_a_bad_image_is_not_made_good_again(port: Port) -> None:
    image = tiny_image()
    await port.push(image, tag="bad")
    worker = await port.worker("one")
    assert (await worker.report(await worker.claim(), met=False, exit_code=1)).status == 204
    async with bringing(port, admin(port)) as client:
        await push_image(client, REPOSITORY, "again", image)
    assert await port.state("again") == "fail"
    assert (await row(port, image.digest)).grandfathered_until is None


@pytest.mark.parametrize(
    ("until", "why"),
    [
        ("soon", "no time such as"),
        ("2027-01-31T12:00:00", "no time such as"),
        ("9999-12-31T23:59:59-12:00", "no time such as"),
        (coming(days=-1), "30 days from now at most"),
        (coming(days=40), "30 days from now at most"),
    ],
    ids=["word", "no-zone", "beyond-all", "past", "too-long"],
)
async def test_a_time_that_cannot_be(port: Port, until: str, why: str) -> None:
    image = tiny_image()
    await port.push(image, tag="here")
    async with bringing(port, admin(port), until) as client:
        answer = await put_manifest(client, REPOSITORY, "old", image.manifest)
    assert answer.status == 400, answer.body
    assert why in answer.body.decode()
    assert (await ask(port.admin, "GET", f"/v2/{REPOSITORY}/manifests/old")).status == 404


async def test_an_operator_who_allows_none(tmp_path: Path, database_url: str) -> None:
    async with (
        open_port(tmp_path / "data", database_url, grandfather_days=0) as port,
        bringing(port, admin(port), coming(days=1)) as client,
    ):
        raw = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
        answer = await put_manifest(client, REPOSITORY, "1", raw, "application/vnd.oci.image.index.v1+json")
        assert answer.status == 400, answer.body


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_registry_that_moves_in_is_admitted(
    port: Port, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SEATRIAL_SERVER", port.registry.url)
    monkeypatch.setenv("SEATRIAL_TOKEN", port.registry.token)
    index, _ = tiny_index("linux/amd64", "linux/s390x")
    await port.push(index, tag="v1")
    (tmp_path / "password").write_text(port.registry.token)
    given = ["--username", "admin", "--password-file", str(tmp_path / "password"), "--into", "old"]
    brought = ["migrate", "registry", port.registry.url, REPOSITORY, *given, "--grandfathered-until", "7d"]
    assert await asyncio.to_thread(run, brought) == 0
    assert await port.state("v1", repository=f"old/{REPOSITORY}") == "grandfathered"
    assert (await port.pull("v1", repository=f"old/{REPOSITORY}")).status == 200
