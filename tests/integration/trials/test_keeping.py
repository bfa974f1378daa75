"""Old trials go, and never what a standing verdict rests on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select, update

from registry.db.content import attestations
from registry.db.trials import parts, runs, trials
from registry.trials.keeping import Keeping, sweep
from tests.kit.access import api, ask
from tests.kit.trials import REPOSITORY, Port, tiny_image, tiny_index

YEAR = Keeping(days=365, newest=3)


async def age(port: Port, *, days: int) -> None:
    past = datetime.now(UTC) - timedelta(days=days)
    async with port.database.write() as connection:
        await connection.execute(update(trials).values(created_at=past, finished_at=past))
        for table in (parts, runs):
            await connection.execute(update(table).values(finished_at=past))


async def count(port: Port, table: Any) -> int:
    async with port.database.read() as connection:
        return (await connection.execute(select(func.count()).select_from(table))).scalar_one()


async def again(port: Port, worker: Any, spec: dict[str, Any] | None = None) -> None:
    body = {"image": f"{REPOSITORY}:1", **({} if spec is None else {"spec": spec})}
    await api(port.admin, "POST", "/trials", status=201, json=body)
    assert (await worker.report(await worker.claim())).status == 204


async def test_old_trials_go_but_for_the_newest_and_what_stands(port: Port) -> None:
    digest = await port.push(tiny_image())
    worker = await port.worker("one")
    # The only one that asked this: its verdict is attested.
    assert (await worker.report(await worker.claim())).status == 204
    other = {"version": 1, "expect": {"exit": 0}}
    for _ in range(5):
        await again(port, worker, other)
    first, *rest = [one["id"] for one in (await port.trials(digest))[::-1]]
    assert await sweep(port.database, YEAR) == 0
    await age(port, days=364)
    assert await sweep(port.database, YEAR) == 0
    await age(port, days=366)
    queued = await api(port.admin, "POST", "/trials", status=201, json={"image": f"{REPOSITORY}:1"})
    await age(port, days=366)
    assert await sweep(port.database, YEAR) == 3
    kept = [one["id"] for one in await port.trials(digest)]
    assert kept == [queued["id"], *rest[:2:-1], first]
    assert await sweep(port.database, YEAR) == 0
    assert await port.state(digest) == "pass"
    assert await count(port, parts) == 2


async def test_what_is_left_of_images_that_are_gone_goes(port: Port) -> None:
    index, images = tiny_index("linux/amd64", "linux/s390x")
    digest = await port.push(index)
    stays = await port.push(tiny_image(), tag="stays")
    worker = await port.worker("one")
    for _ in range(2):
        assert (await worker.report(await worker.claim(), log="x" * 1000)).status == 204
    await age(port, days=400)
    for one in (digest, *(image.digest for image in images)):
        answer = await ask(port.admin, "DELETE", f"/v2/{REPOSITORY}/manifests/{one}")
        assert answer.status == 202
    # As long as something is attested of them.
    async with port.database.write() as connection:
        named = attestations.c.digest != stays
        left = (await connection.execute(select(attestations.c.id).where(named))).all()
    if left:
        await sweep(port.database, YEAR)
        async with port.database.write() as connection:
            await connection.execute(delete(attestations).where(named))
    await sweep(port.database, YEAR)
    async with port.database.read() as connection:
        for table in (trials, parts):
            found = (await connection.execute(select(table.c.digest))).scalars().all()
            assert found == [stays], table.name
    assert await count(port, runs) == 1
    (trial,) = await port.trials(stays)
    assert trial["runs"][0]["log"] == "x" * 1000
