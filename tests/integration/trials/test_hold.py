"""``hold``: who only reads a tag gets the last image of it that was admitted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from registry.db.content import manifests, repositories, tag_history
from registry.db.events import pull_days
from registry.db.types import db_time
from tests.kit.access import Answer, api, ask, make_user
from tests.kit.trials import REPOSITORY, Port, ScriptedWorker, open_port, tiny_image, tiny_index

TAG = f"/v2/{REPOSITORY}/manifests/1"


@dataclass(frozen=True, slots=True)
class Held:
    """A repository that holds its tags, and a worker."""

    port: Port
    worker: ScriptedWorker

    async def push(self, *, met: bool | None = None, tag: str = "1") -> str:
        """Push a new image; with ``met`` it is tried too."""
        digest = await self.port.push(tiny_image(), tag=tag)
        if met is not None:
            await self.judge(digest, met=met)
        return digest

    async def judge(self, digest: str, *, met: bool) -> None:
        """Report on an image; what waits before it is left to itself."""
        while (job := await self.worker.claim()) is not None:
            if job["digest"] == digest:
                assert (await self.worker.report(job, met=met, exit_code=0 if met else 3)).status == 204
                return
        raise AssertionError(f"no job for {digest}")

    async def reads(self, tag: str = "1") -> str:
        """What a reader gets by the tag: asked for twice, as the second answer may be a known one."""
        found = set()
        for method in ("GET", "HEAD", "GET", "HEAD"):
            answer = await ask(self.port.reader, method, f"/v2/{REPOSITORY}/manifests/{tag}")
            found.add(served(answer))
        (only,) = found
        return only

    async def writer_reads(self, tag: str = "1") -> str:
        """What who may push gets."""
        return served(await ask(self.port.admin, "GET", f"/v2/{REPOSITORY}/manifests/{tag}"))

    async def explained(self, tag: str = "1", **more: str) -> Any:
        """What the gate says to the reader."""
        query = {"image": f"{REPOSITORY}:{tag}", **more}
        return (
            await ask(self.port.admin if more else self.port.reader, "GET", "/api/v1/gate", params=query)
        ).json


def served(answer: Answer) -> str:
    """The digest that was served, else the status."""
    if answer.status != 200:
        return str(answer.status)
    digest = answer.headers["Docker-Content-Digest"]
    assert answer.headers["ETag"] == f'"{digest}"'
    return digest


@pytest.fixture
async def held(tmp_path: Path, database_url: str) -> AsyncIterator[Held]:
    async with open_port(tmp_path / "data", database_url, gate="hold", verdict_max_age_days=30) as port:
        yield Held(port, await port.worker("one"))


async def test_a_tag_moves_for_readers_when_there_is_a_verdict(held: Held) -> None:
    first = await held.push()
    # Nothing was admitted yet: as enforce.
    assert (await held.reads(), await held.writer_reads()) == ("403", first)
    await held.judge(first, met=True)
    assert await held.reads() == first

    second = await held.push()
    assert (await held.reads(), await held.writer_reads()) == (first, second)
    warning = (await held.port.pull("1")).headers["Warning"]
    assert f"{REPOSITORY}@{second} is still being tried" in warning
    assert f"the tag stays at {first}" in warning
    # By digest nothing is held back that could be given instead.
    assert (await held.port.pull(second)).status == 403
    known = {"If-None-Match": f'"{first}"'}
    assert (await ask(held.port.reader, "GET", TAG, headers=known)).status == 304
    explained = await held.explained()
    assert (explained["digest"], explained["served"], explained["decision"]) == (
        second,
        first,
        "admit-earlier",
    )
    assert (await held.explained(actor="admin"))["served"] == second

    # One that comes to its verdict late is still newer than the first, and the third is tried next.
    third = await held.push()
    assert await held.reads() == first
    await held.judge(second, met=True)
    assert await held.reads() == second
    await held.judge(third, met=False)
    assert (await held.reads(), await held.writer_reads()) == (second, third)
    explained = await held.explained()
    assert explained["explain"] == (
        "the gate holds the tag and the state is fail: readers get the last admitted image of it"
    )
    # Another push of the tag decides for itself.
    fourth = await held.push(met=True)
    assert await held.reads() == fourth
    # What is pulled is what is counted.
    services = held.port.registry.services
    assert services is not None
    await services.pulls.flush(held.port.database)
    async with held.port.database.read() as connection:
        counted = set(
            (await connection.execute(select(pull_days.c.digest).where(pull_days.c.tag == "1"))).scalars()
        )
    assert third in counted  # the writer's
    assert {first, second, fourth} <= counted


async def test_rollbacks_deletes_and_blocks(held: Held) -> None:
    port = held.port
    good = await held.push(met=True)
    better = await held.push(met=True)
    bad = await held.push(met=False)
    assert await held.reads() == better
    # A block above: nothing older is given in its place.
    await api(
        port.admin, "POST", "/gate/block", status=204, json={"image": f"{REPOSITORY}@{better}", "reason": "r"}
    )
    assert await held.reads() == "403"
    await api(port.admin, "POST", "/gate/unblock", status=204, json={"image": f"{REPOSITORY}@{better}"})
    assert await held.reads() == better
    # Back to the first: what came after it is not wanted any more, whatever becomes of the first.
    rollback = f"/repositories/{REPOSITORY.replace('/', '%2F')}/tags/1/rollback"
    await api(port.admin, "POST", rollback, json={"to": good})
    assert await held.reads() == good
    await api(port.admin, "POST", "/trials", status=201, json={"image": f"{REPOSITORY}@{good}"})
    await held.judge(good, met=False)
    assert await held.reads() == "403"
    await api(port.admin, "POST", "/trials", status=201, json={"image": f"{REPOSITORY}@{good}"})
    await held.judge(good, met=True)
    # The same image again under the tag.
    again = await held.push()
    assert await held.reads() == good
    # An image that is gone is passed over; a tag that was deleted has no past.
    assert (await ask(port.admin, "DELETE", f"/v2/{REPOSITORY}/manifests/{good}")).status == 202
    assert (await held.reads(), await held.writer_reads()) == ("403", again)
    assert (await ask(port.admin, "DELETE", TAG)).status == 202
    assert await held.reads() == "404"
    await held.push()
    assert await held.reads() == "403"
    assert (await ask(port.admin, "GET", f"/v2/{REPOSITORY}/manifests/{bad}")).status == 200


async def test_time_and_indexes(held: Held) -> None:
    port = held.port
    old = await held.push(met=True)
    newer = await held.push(met=True)
    index, (child, _) = tiny_index("linux/amd64", "linux/s390x")
    digest = await port.push(index)
    assert (await held.reads(), await held.writer_reads()) == (newer, digest)
    # The verdict of the index's last child is that of the index.
    await held.judge(child.digest, met=True)
    assert await held.reads() == digest
    await held.push()
    # What was admitted for a time is admitted as long; what is too old, until it was tried again.
    await set_rows(port, digest, state="grandfathered", grandfathered_until=db_time(timedelta(days=1)))
    await set_rows(port, newer, state_at=db_time(timedelta(days=-31)))
    assert await held.reads() == digest
    await set_rows(port, digest, state="grandfathered", grandfathered_until=db_time(timedelta(seconds=-1)))
    assert await held.reads() == newer
    assert {trial["cause"] for trial in await port.trials(newer)} == {"push", "request"}
    assert old != newer


async def test_the_names_of_tags_tell_nothing_and_hide_nothing(held: Held) -> None:
    await held.push(tag="waiting")
    listed = await ask(held.port.reader, "GET", f"/v2/{REPOSITORY}/tags/list")
    assert listed.json["tags"] == ["waiting"]
    assert await held.reads("waiting") == "403"


async def test_explaining_for_somebody_else(held: Held) -> None:
    await held.push(met=True)
    await make_user(held.port.admin, "stranger")
    explained = await held.explained(actor="stranger")
    assert (explained["decision"], explained["served"]) == ("refuse", None)
    assert "does not get as far as the gate" in explained["explain"]
    query = {"image": f"{REPOSITORY}:1", "actor": "nobody-of-that-name"}
    assert (await ask(held.port.admin, "GET", "/api/v1/gate", params=query)).status == 404
    query["actor"] = "stranger"
    assert (await ask(held.port.reader, "GET", "/api/v1/gate", params=query)).status == 403


async def test_a_thousand_pushes_that_failed_are_passed_over_quickly(held: Held) -> None:
    good = await held.push(met=True)
    bad = await held.push(met=False)
    async with held.port.database.write() as connection:
        repository_id = (await connection.execute(select(repositories.c.id))).scalar_one()
        line = {
            "repository_id": repository_id,
            "name": "1",
            "action": "push",
            "actor": "a",
            "new_digest": bad,
        }
        await connection.execute(insert(tag_history).values(at=db_time()), [line] * 900)
    assert await held.reads() == good


async def set_rows(port: Port, digest: str, **values: Any) -> None:
    async with port.database.write() as connection:
        await connection.execute(update(manifests).where(manifests.c.digest == digest).values(**values))
        await connection.exec_driver_sql("UPDATE epochs SET gate = gate + 1")
        await connection.exec_driver_sql("UPDATE trials SET created_at = created_at - 2678400000000")
