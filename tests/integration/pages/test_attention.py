"""What needs attention: on the first page, by the API, and for whom."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from sqlalchemy import insert, update

from registry.db.accounts import workers
from registry.db.content import blobs
from registry.db.matchings import matchings
from registry.db.types import db_time
from registry.db.webhooks import webhooks
from tests.integration.pages.test_managing import read
from tests.kit.access import api, ask, give_role, make_user
from tests.kit.pagereading import sign_in, visitor, words_of
from tests.kit.trials import Port, make_error, tiny_image


async def make_trouble(port: Port) -> str:
    """One of each kind, in ``team/app``; the digest of its image."""
    worker = await port.worker("lost")
    digest = await port.push(tiny_image())
    job = await worker.claim()
    assert (await worker.report(job, **make_error("layer-invalid"))).status == 204
    until = (datetime.now(UTC) + timedelta(days=7)).isoformat()
    wanted = {"image": f"team/app@{digest}", "states": ["error"], "reason": "soon", "expires_at": until}
    await api(port.admin, "POST", "/waivers", status=201, json=wanted)
    hook = {"repository": "team/app", "url": "https://receiver.example/"}
    await api(port.admin, "POST", "/webhooks", status=201, json=hook)
    await api(port.admin, "PATCH", "/quota", json={"on": "team/app", "tags": 1})
    await api(port.admin, "PATCH", "/quota", json={"on": "team/", "repositories": 1, "tags": 100})
    old = db_time(-timedelta(days=30))
    assert port.registry.services is not None
    async with port.registry.services.database.write() as connection:
        await connection.execute(update(workers).values(last_seen_at=old))
        await connection.execute(update(blobs).values(damage="digest", damaged_at=db_time()))
        await connection.execute(update(webhooks).values(failing_since=old))
        await connection.execute(
            insert(matchings).values(
                generation="old",
                rules=0,
                put_at=old,
                as_of=old,
                sources="[]",
                ecosystems="[]",
                begun_at=old,
                ended_at=old,
                leased_until=old,
            )
        )
    return digest


async def kinds(port: Port, name: str, password: str) -> dict[str, int]:
    """How many of each kind somebody is told of."""
    found: dict[str, int] = {}
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry, name=name, password=password)
        for one in await api(person, "GET", "/attention"):
            found[one["kind"]] = found.get(one["kind"], 0) + 1
    return found


async def test_the_first_page_tells_each_what_is_his(port: Port) -> None:
    digest = await make_trouble(port)
    everything = {
        "webhook": 1,
        "worker": 1,
        "advisories": 1,
        "quota": 2,
        "damaged": 1,
        "waiver": 1,
        "trial": 1,
    }
    assert await kinds(port, "admin", port.registry.token) == everything
    for name, role, expected in (
        ("maintainer", "maintainer", {"webhook": 1, "waiver": 1, "trial": 1}),
        ("writer", "writer", {"trial": 1}),
        ("reader", "reader", {}),
    ):
        password = await make_user(port.admin, name)
        await give_role(port.admin, "team/app", f"user:{name}", role)
        assert await kinds(port, name, password) == expected, name
    above = await make_user(port.admin, "above")
    await give_role(port.admin, "team/", "user:above", "maintainer")
    assert await kinds(port, "above", above) == {"webhook": 1, "waiver": 1, "trial": 1}
    auditor = await make_user(port.admin, "auditor", auditor=True)
    assert await kinds(port, "auditor", auditor) == {"advisories": 1, "quota": 2}
    assert await kinds(port, "stranger", await make_user(port.admin, "stranger")) == {}
    async with visitor(port.registry) as person:
        assert "Needs attention" not in words_of(await read(person, "/"))
        assert (await ask(person, "GET", "/api/v1/attention")).status == 401
        await sign_in(person, port.registry)
        page = await read(person, "/")
        shown = words_of(page)
        for said in (
            "A webhook fails: https://receiver.example/ (of team/app)",
            "The worker lost is not heard of",
            "Advisories are old",
            "team/ has used 100 % of its quota: Repositories",
            "team/app has used 100 % of its quota: Tags",
            "Damaged blobs: ",
            "A waiver is asked for in team/app by admin",
            f"its trial went wrong: team/app@{digest[:19]}",
        ):
            assert said in shown, said
        for path in set(re.findall(r'<li>\s*<a href="([^"]+)"', page.body.decode())):
            assert (await ask(person, "GET", path.replace("&amp;", "&"))).status == 200, path


async def test_where_nothing_is_wrong_nothing_is_said(port: Port) -> None:
    worker = await port.worker("w")
    await port.push(tiny_image())
    await worker.report(await worker.claim())
    await api(port.admin, "PATCH", "/quota", json={"on": "team/app", "tags": 10, "bytes": 10_000_000})
    assert await kinds(port, "admin", port.registry.token) == {}
