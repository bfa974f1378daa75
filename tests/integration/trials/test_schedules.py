"""Images with an old verdict are tried again when it is time, once, whoever of several looks."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import ColumnElement, event, func, select, update
from sqlalchemy.engine import Engine

from registry.db.content import manifests
from registry.db.engine import Database
from registry.db.events import events
from registry.db.schedules import schedules
from registry.db.trials import parts, trials
from registry.db.types import db_time
from registry.http.sweeps import sweep
from registry.trials import schedules as use
from registry.trials.scheduling import SCHEDULED
from tests.kit.access import api, give_role, make_user
from tests.kit.plans import sent
from tests.kit.trials import REPOSITORY, Port, ScriptedWorker, tiny_image, tiny_index

OTHER = "other/app"


async def test_what_is_old_is_tried_again_when_it_is_time(port: Port) -> None:
    worker = await port.worker("one")
    index, _ = tiny_index("linux/amd64")
    image = tiny_image()
    digests = {
        "index": await port.push(index, tag="index"),
        "image": await port.push(image, tag="image"),
        "again": await port.push(image, tag="again"),
        "untagged": await port.push(tiny_image(), tag="untagged"),
        "other": await port.push(tiny_image(), repository=OTHER),
    }
    await work_off(worker)
    await port.push(tiny_image(), tag="untagged")
    await work_off(worker)
    await age(port.database, manifests.c.state == "pass", hours=30)
    young = await port.push(tiny_image(), tag="young")
    await work_off(worker)

    made = await create(port, on="team/", every_hours=24)
    assert (made["older_hours"], made["at"], made["on"]) == (12, None, "team/")
    assert await run_due(port) == 3
    # Of what only an index lists, and of what nobody names any more, nobody asked.
    assert await asked_again(port) == {digests["index"], digests["image"], await tagged(port, "untagged")}
    async with port.database.read() as connection:
        urgencies = select(parts.c.urgency).where(parts.c.state == "queued").distinct()
        assert (await connection.execute(urgencies)).scalars().all() == [SCHEDULED]
    # It stays as it is until there is another verdict, and is asked for once in the time of the schedule.
    assert await port.state(digests["image"]) == "pass"
    (shown,) = await listed(port, "team/")
    assert shown["next_at"] > made["next_at"]
    assert await run_due(port) == 0
    await due_now(port)
    assert await run_due(port) == 0
    await work_off(worker, met=False)
    assert (await port.state(digests["image"]), await port.state(digests["index"])) == ("fail", "fail")
    assert (await port.state(young), await port.state(digests["other"], repository=OTHER)) == ("pass", "pass")
    await due_now(port)
    assert await run_due(port) == 0
    # A bad verdict is an old one as well.
    await age(port.database, manifests.c.digest == digests["image"], hours=13)
    await due_now(port)
    assert port.registry.services is not None
    await sweep(port.registry.services)
    assert await asked_again(port) == {digests["image"]}


async def test_one_that_cannot_be_followed_is_in_nobody_s_way(port: Port) -> None:
    worker = await port.worker("one")
    digest = await port.push(tiny_image())
    await work_off(worker)
    await age(port.database, manifests.c.digest == digest, hours=72)
    for every_hours in (24, 48):
        await create(port, on=REPOSITORY, every_hours=every_hours)
    await due_now(port)
    async with port.database.write() as connection:
        # As nothing that is asked for says: older than there are years.
        first = select(func.min(schedules.c.id)).scalar_subquery()
        await connection.execute(
            update(schedules).where(schedules.c.id == first).values(older_hours=2**31 - 1)
        )
    assert await run_due(port) == 1
    assert await asked_again(port) == {digest}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few images fill a transaction."""
    monkeypatch.setattr(use, "AT_ONCE", 2)


@pytest.mark.usefixtures("few")
async def test_several_that_look_at_once_ask_once(port: Port) -> None:
    worker = await port.worker("one")
    count = 2 * use.AT_ONCE + 1
    for number in range(count):
        await port.push(tiny_image(), tag=f"t{number}")
    await work_off(worker)
    await age(port.database, manifests.c.state == "pass", hours=30)
    await create(port, on=REPOSITORY, every_hours=1, older_hours=24)
    assert sum(await asyncio.gather(*(run_due(port) for _ in range(3)))) == count
    async with port.database.read() as connection:
        of_each = select(func.count()).select_from(trials).group_by(trials.c.digest)
        assert set((await connection.execute(of_each)).scalars()) == {2}
    async with port.database.read() as connection:
        later = select(func.count()).select_from(schedules).where(schedules.c.next_at > db_time())
        assert (await connection.execute(later)).scalar_one() == 1


class KilledError(Exception):
    """The process ends in the midst of a transaction."""


@pytest.mark.usefixtures("few")
async def test_who_is_killed_leaves_the_rest_to_the_next(port: Port) -> None:
    worker = await port.worker("one")
    for number in range(use.AT_ONCE + 1):
        await port.push(tiny_image(), tag=f"t{number}")
    await work_off(worker)
    await age(port.database, manifests.c.state == "pass", hours=30)
    await create(port, on=REPOSITORY, every_hours=24)
    began = 0

    def end(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        nonlocal began
        began += text.startswith("INSERT INTO trials ")
        if began > use.AT_ONCE:
            raise KilledError

    event.listen(Engine, "before_cursor_execute", end)
    try:
        with pytest.raises(KilledError):
            await run_due(port)
    finally:
        event.remove(Engine, "before_cursor_execute", end)
    assert len(await asked_again(port)) == use.AT_ONCE
    assert await run_due(port) == 1


async def test_nothing_is_written_when_nothing_is_due(port: Port) -> None:
    await port.push(tiny_image())
    await create(port, on=REPOSITORY, at="02:30")
    with sent() as statements:
        assert await run_due(port) == 0
    own = [one.text for one in statements if "schedules" in one.text]
    assert len(own) == 1
    assert own[0].startswith("SELECT")


async def test_schedules_are_of_those_who_configure_the_place(port: Port) -> None:
    await port.push(tiny_image())
    password = await make_user(port.admin, "rita")
    await give_role(port.admin, REPOSITORY, "user:rita", "reader")
    made = await create(port, on=REPOSITORY, at="23:59", older_hours=0)
    assert (made["at"], made["every_hours"], made["older_hours"]) == ("23:59", None, 0)
    path = f"/schedules/{made['id']}"
    async with port.registry.client(password, user="rita") as rita:
        assert await api(rita, "GET", "/schedules", params={"on": REPOSITORY}) == [made]
        body = {"on": REPOSITORY, "every_hours": 24}
        await api(rita, "POST", "/schedules", status=403, json=body)
        await api(rita, "DELETE", path, status=404)
    for wrong in (
        {},
        {"every_hours": 24, "at": "02:30"},
        {"every_hours": 0},
        {"at": "25:00"},
        {"at": "02:30", "older_hours": -1},
    ):
        await api(port.admin, "POST", "/schedules", status=400, json={"on": REPOSITORY, **wrong})
    await api(port.admin, "POST", "/schedules", status=404, json={"on": "no/such", "every_hours": 1})
    again = {"on": REPOSITORY, "at": "23:59", "older_hours": 0}
    told = await api(port.admin, "POST", "/schedules", status=409, json=again)
    assert f"team/app has this schedule already; it is schedule {made['id']}" in str(told)
    for hours in range(1, use.SCHEDULES_MAX):
        await create(port, on=REPOSITORY, every_hours=hours)
    # As it is without saying so.
    again = {"on": REPOSITORY, "every_hours": 2, "older_hours": 1}
    assert "this schedule" in str(await api(port.admin, "POST", "/schedules", status=409, json=again))
    told = await api(port.admin, "POST", "/schedules", status=409, json={"on": REPOSITORY, "every_hours": 99})
    assert f"{use.SCHEDULES_MAX} are the limit" in str(told)
    await api(port.admin, "DELETE", path, status=204)
    await api(port.admin, "DELETE", path, status=404)
    async with port.database.read() as connection:
        kinds = list((await connection.execute(select(events.c.kind))).scalars())
    assert (kinds.count("schedule.created"), kinds.count("schedule.deleted")) == (use.SCHEDULES_MAX, 1)
    # With its place it goes.
    await api(port.admin, "DELETE", "/repositories/team%2Fapp", status=204)
    async with port.database.read() as connection:
        assert (await connection.execute(select(func.count()).select_from(schedules))).scalar_one() == 0


async def create(port: Port, **given: Any) -> Any:
    return await api(port.admin, "POST", "/schedules", status=201, json=given)


async def listed(port: Port, on: str) -> Any:
    return await api(port.admin, "GET", "/schedules", params={"on": on})


async def run_due(port: Port) -> int:
    """What a registry does from time to time."""
    assert port.registry.services is not None
    return await use.run_due(port.database, port.registry.services.settings)


async def due_now(port: Port) -> None:
    """Let the time come of all schedules."""
    async with port.database.write() as connection:
        await connection.execute(update(schedules).values(next_at=db_time()))


async def age(database: Database, which: ColumnElement[bool], *, hours: int) -> None:
    """Let verdicts have been given so long ago, by trials that began then."""
    async with database.write() as connection:
        then = db_time(timedelta(hours=-hours))
        await connection.execute(update(manifests).where(which).values(state_at=then))
        await connection.execute(update(trials).values(created_at=then))


async def work_off(worker: ScriptedWorker, *, met: bool = True) -> None:
    while (job := await worker.claim()) is not None:
        assert (await worker.report(job, met=met, exit_code=0 if met else 1)).status == 204


async def asked_again(port: Port) -> set[str]:
    """Of what trials wait."""
    async with port.database.read() as connection:
        waiting = select(trials.c.digest).where(trials.c.state == "queued")
        return set((await connection.execute(waiting)).scalars())


async def tagged(port: Port, tag: str) -> str:
    """The image that a tag names."""
    return str((await api(port.admin, "GET", f"/repositories/team%2Fapp/tags/{tag}"))["digest"])
