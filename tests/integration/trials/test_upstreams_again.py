"""Copies of images of other registries that are asked for again, and with whose credential."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from registry.db.events import events
from registry.db.types import db_time
from registry.db.upstreams import upstream_copies
from registry.trials import upstreamtrials
from tests.kit.access import api, give_role, have_namespaces, make_user
from tests.kit.trials import Port, open_port, tiny_image
from tests.kit.upstream import SECONDS, Elsewhere, Said, add, claimed, ended, running_elsewhere, start


@pytest.fixture
async def port(tmp_path: Path, database_url: str) -> AsyncIterator[Port]:
    """As everywhere; other registries are on loopback."""
    async with open_port(tmp_path / "data", database_url, outgoing_networks=("127.0.0.0/8",)) as opened:
        await have_namespaces(opened.database, "team")
        yield opened


@pytest.fixture
async def elsewhere() -> AsyncIterator[Elsewhere]:
    async with running_elsewhere() as running:
        yield running


async def test_what_may_pass_is_asked_again_by_itself(
    port: Port, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whether the pause is over is up to the test.
    monkeypatch.setattr(upstreamtrials, "PAUSES", (timedelta(hours=1),) * 3)
    held = tiny_image()
    elsewhere.hold("lib/app", "1", held)
    good = elsewhere.answers["/v2/lib/app/manifests/1"]
    elsewhere.answers["/v2/lib/app/manifests/1"] = Said(503)
    await add(port.admin, elsewhere.host)
    trial = await start(port.admin, "lib/app:1")
    for _ in range(SECONDS * 10):
        shown = await api(port.admin, "GET", f"/trials/{trial['id']}")
        if "answers 503" in shown["reason"]:
            break
        await asyncio.sleep(0.1)
    assert (shown["state"], shown["verdict"]) == ("queued", None)
    assert shown["reason"].startswith("tried again within 3600 s or a little more: ")
    # What the other registry asks for counts where it is longer, up to an hour.
    monkeypatch.setattr(upstreamtrials, "PAUSES", (timedelta(seconds=20),) * 3)
    for said, kept in (("1200", 1200), ("1799107200", 3600)):
        elsewhere.answers["/v2/lib/app/manifests/1"] = Said(429, headers={"Retry-After": said})
        async with port.database.write() as connection:
            await connection.execute(update(upstream_copies).values(run_after=db_time()))
        for _ in range(SECONDS * 10):
            shown = await api(port.admin, "GET", f"/trials/{trial['id']}")
            if f"within {kept} s" in shown["reason"] and "(429)" in shown["reason"]:
                break
            await asyncio.sleep(0.1)
        assert shown["reason"].startswith(f"tried again within {kept} s or a little more: "), shown
        async with port.database.read() as connection:
            due = select(upstream_copies.c.trial_id).where(
                upstream_copies.c.run_after > db_time(timedelta(seconds=kept / 2)),
                upstream_copies.c.run_after <= db_time(timedelta(seconds=kept)),
            )
            assert (await connection.execute(due)).scalar_one() == trial["id"]
    elsewhere.answers["/v2/lib/app/manifests/1"] = good
    async with port.database.write() as connection:
        await connection.execute(update(upstream_copies).values(run_after=db_time()))
    worker = await port.worker("w")
    assert (await worker.report(await claimed(worker))).status == 204
    assert (await ended(port.admin, trial))["verdict"] == "pass"


async def test_a_copy_goes_on_under_a_new_name(
    port: Port, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstreamtrials, "PAUSES", (timedelta(0),) * 3)
    held, gate = tiny_image(), asyncio.Event()
    elsewhere.hold("lib/app", "1", held)
    layer = f"/v2/lib/app/blobs/{held.layers[0].digest}"
    elsewhere.answers[layer] = Said(body=elsewhere.answers[layer].body, waits=gate)
    await add(port.admin, elsewhere.host)
    trial = await start(port.admin, "lib/app:1")
    await elsewhere.until(layer)
    await api(port.admin, "POST", "/namespaces/team/rename", json={"name": "crew"})
    gate.set()
    worker = await port.worker("w")
    assert (await worker.report(await claimed(worker))).status == 204
    assert (await ended(port.admin, trial))["verdict"] == "pass"


async def test_an_upstream_is_found_by_its_host_and_its_credential_replaced(
    port: Port, elsewhere: Elsewhere
) -> None:
    held, worker = tiny_image(), await port.worker("w")
    elsewhere.hold("lib/app", "1", held)
    await add(port.admin, elsewhere.host, username="u", secret="first", repositories=["lib/*"])
    image = f"{elsewhere.host}/lib/app:1"
    trial = await api(port.admin, "POST", "/trials", status=201, json={"image": image})
    assert (await worker.report(await claimed(worker))).status == 204
    assert (await ended(port.admin, trial))["upstream"] == "other/lib/app:1"
    # One of a host that nobody has added, or of several, is not guessed at.
    unknown = await api(port.admin, "POST", "/trials", status=404, json={"image": "127.0.0.1:1/lib/app:1"})
    assert "no upstream of 127.0.0.1:1; see seatrial upstream add" in unknown["detail"]
    for name in ("others", "third"):
        await add(port.admin, elsewhere.host, name=name, repositories=["*"])
    both = await api(port.admin, "POST", "/trials", status=400, json={"image": f"{elsewhere.host}/else:1"})
    assert "others, third; say which one" in both["detail"]
    # A repository here may be called as a host is.
    digest = await port.push(tiny_image(), repository="team.example/app")
    own = {"image": f"team.example/app@{digest}"}
    assert (await api(port.admin, "POST", "/trials", status=201, json=own))["upstream"] is None
    while (job := await worker.claim()) is not None:
        assert (await worker.report(job)).status == 204

    # What was copied is none of the namespace's repositories, and no spec for it names anything of this one.
    shown = await api(port.admin, "GET", "/namespaces/team")
    assert (shown["repositories"], shown["first_repositories"]) == (0, [])
    copied = (await api(port.admin, "GET", f"/trials/{trial['id']}"))["image"]
    service = {"name": "db", "image": f"team.example/app@{digest}", "ready": {"tcp": 1}}
    for names in ({"services": [service]}, {"env": {"A": {"secret": "DB"}}}):
        body = {"image": f"{copied}@{held.digest}", "spec": {"version": 1, **names}}
        refused = await api(port.admin, "POST", "/trials", status=400, json=body)
        assert "can name no secrets or services" in refused["detail"]

    # Its token is replaced by a password and forgotten, by those who may configure the namespace.
    writer = await make_user(port.admin, "rita")
    await give_role(port.admin, "team/", "user:rita", "writer")
    async with port.registry.client(writer, user="rita") as rita:
        await api(rita, "PATCH", "/upstreams/other", status=403, json={"secret": None})
    for wrong in ({}, {"username": "u", "secret": None}, {"secret": ""}):
        await api(port.admin, "PATCH", "/upstreams/other", status=400, json=wrong)
    await api(port.admin, "PATCH", "/upstreams/none", status=404, json={"secret": "x"})
    shown = await api(port.admin, "PATCH", "/upstreams/other", json={"secret": "a-new-token"})
    assert (shown["username"], shown["has_secret"]) == (None, True)
    elsewhere.asked.clear()
    again = await start(port.admin, "lib/app:1")
    assert (await worker.report(await claimed(worker))).status == 204
    assert (await ended(port.admin, again))["verdict"] == "pass"
    assert {authorization for *_, authorization in elsewhere.asked} == {"Bearer a-new-token"}
    shown = await api(port.admin, "PATCH", "/upstreams/other", json={"secret": None})
    assert (shown["username"], shown["has_secret"]) == (None, False)
    async with port.database.read() as connection:
        replaced = events.c.kind == "upstream.credential_replaced"
        told = (await connection.execute(select(events).where(replaced))).all()
    assert len(told) == 2
    assert "a-new-token" not in str(told)
