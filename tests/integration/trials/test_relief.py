"""Waivers, pauses, and images that passed and turn bad: what lets pass for a while, and ends by itself."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select, text, update

from registry.db.content import manifests
from registry.db.engine import move_epoch
from registry.db.events import events
from registry.db.gate import pauses, waivers
from registry.db.types import db_time
from tests.kit.access import api, ask, make_token, make_user
from tests.kit.trials import REPOSITORY, Port, ScriptedWorker, open_port, tiny_image, tiny_index

IN_AN_HOUR = timedelta(hours=1)


def coming(after: timedelta = IN_AN_HOUR) -> str:
    return (datetime.now(UTC) + after).isoformat()


def asked(image: str, *states: str, **more: Any) -> dict[str, Any]:
    return {"image": image, "states": list(states), "reason": "a hotfix", "expires_at": coming(), **more}


async def waived(port: Port, body: dict[str, Any]) -> Any:
    """A waiver that was asked for and granted."""
    made = await api(port.admin, "POST", "/waivers", status=201, json=body)
    return await api(port.admin, "POST", f"/waivers/{made['id']}/grant")


async def explained(port: Port, reference: str) -> Any:
    join = "@" if ":" in reference else ":"
    return await api(port.reader, "GET", "/gate", params={"image": f"{REPOSITORY}{join}{reference}"})


async def reads(port: Port, reference: str) -> tuple[int, str]:
    """Status and warning of a reader's pull, twice the same: the second may be a known answer."""
    answers = [await port.pull(reference) for _ in range(2)]
    (found,) = {(answer.status, answer.headers.get("Warning", "")) for answer in answers}
    return found


async def kinds(port: Port) -> list[str]:
    async with port.database.read() as connection:
        return list((await connection.execute(select(events.c.kind).order_by(events.c.id))).scalars())


async def judge(port: Port, worker: ScriptedWorker, *, met: bool) -> None:
    assert (await worker.report(await worker.claim(), met=met, exit_code=0 if met else 3)).status == 204


async def test_a_waiver_is_asked_for_granted_and_ends(port: Port) -> None:
    image, other = tiny_image(), tiny_image()
    digest, worker = await port.push(image), await port.worker("one")
    await judge(port, worker, met=False)
    await port.push(other, tag="other")
    layer = f"/v2/{REPOSITORY}/blobs/{image.layers[0].digest}"
    made = await api(
        port.admin, "POST", "/waivers", status=201, json=asked(f"{REPOSITORY}:1", "fail", "error")
    )
    assert (made["digest"], made["standing"], made["states"]) == (digest, "requested", ["error", "fail"])
    assert (await reads(port, "1"))[0] == 403
    granted = await api(port.admin, "POST", f"/waivers/{made['id']}/grant")
    assert (granted["standing"], granted["granted_by"]) == ("granted", "admin")
    assert await reads(port, "1") == (200, "")
    assert await reads(port, digest) == (200, "")
    assert (await ask(port.reader, "GET", layer)).status == 200
    said = (await explained(port, "1"))["explain"]
    assert said.startswith(f"the state fail is waived by waiver {made['id']}, granted by admin until ")
    assert said.endswith("UTC: a hotfix")
    # Neither another image nor another state.
    assert (await reads(port, "other"))[0] == 403
    await api(port.admin, "POST", f"/waivers/{made['id']}/grant", status=409)
    # Nothing is above a block.
    body = {"image": f"{REPOSITORY}@{digest}", "reason": "r"}
    await api(port.admin, "POST", "/gate/block", status=204, json=body)
    assert (await reads(port, "1"))[0] == 403
    await api(port.admin, "POST", "/gate/unblock", status=204, json={"image": f"{REPOSITORY}@{digest}"})
    # It expires by itself.
    async with port.database.write() as connection:
        await connection.execute(update(waivers).values(expires_at=db_time(timedelta(seconds=-1))))
        await move_epoch(connection, "gate")
    assert (await reads(port, "1"))[0] == 403
    assert (await api(port.admin, "GET", f"/waivers/{made['id']}"))["standing"] == "expired"
    # For the whole repository, also what waits; until somebody ends it.
    whole = await waived(port, asked(REPOSITORY, "fail", "pending"))
    assert whole["digest"] is None
    assert [await reads(port, reference) for reference in ("1", "other")] == [(200, ""), (200, "")]
    assert (await ask(port.reader, "GET", layer)).status == 200
    ended = await api(port.admin, "POST", f"/waivers/{whole['id']}/revoke")
    assert (ended["standing"], ended["ended_by"]) == ("ended", "admin")
    assert (await reads(port, "1"))[0] == 403
    assert (await ask(port.reader, "GET", layer)).status == 403
    listed = await api(port.reader, "GET", "/waivers", params={"repository": REPOSITORY})
    assert [one["id"] for one in listed["items"]] == [whole["id"], made["id"]]
    found = [kind for kind in await kinds(port) if kind.startswith("waiver.")]
    assert found == ["waiver.requested", "waiver.granted"] * 2 + ["waiver.revoked"]


async def test_a_waived_index_opens_what_it_lists(port: Port) -> None:
    index, (child, other) = tiny_index("linux/amd64", "linux/s390x")
    digest, worker = await port.push(index), await port.worker("one")
    await judge(port, worker, met=False)
    await waived(port, asked(f"{REPOSITORY}@{digest}", "fail", "unsupported"))
    for reference in ("1", child.digest, other.digest):
        assert await reads(port, reference) == (200, "")
    for image in (child, other):
        layer = f"/v2/{REPOSITORY}/blobs/{image.layers[0].digest}"
        assert (await ask(port.reader, "GET", layer)).status == 200


async def test_who_asks_and_who_grants(port: Port) -> None:
    digest, worker = await port.push(tiny_image()), await port.worker("one")
    await judge(port, worker, met=False)
    people = {}
    for name, role in (("wendy", "writer"), ("rob", "reader"), ("max", "maintainer"), ("mia", "maintainer")):
        password = await make_user(port.admin, name)
        member = f"/repositories/{REPOSITORY.replace('/', '%2F')}/members/user:{name}"
        assert (await ask(port.admin, "PUT", f"/api/v1{member}", json={"role": role})).status in (200, 201)
        headers = {"Authorization": aiohttp.encode_basic_auth(name, password)}
        client = aiohttp.ClientSession(port.registry.url, headers=headers)
        people[name] = await port.stack.enter_async_context(client)
    body = asked(f"{REPOSITORY}@{digest}", "fail")
    await api(people["rob"], "POST", "/waivers", status=403, json=body)
    made = await api(people["wendy"], "POST", "/waivers", status=201, json=body)
    path = f"/waivers/{made['id']}"
    for name in ("rob", "wendy"):
        await api(people[name], "POST", f"{path}/grant", status=403)
    await api(people["rob"], "POST", f"{path}/revoke", status=403)
    assert (await api(people["rob"], "GET", path))["reason"] == "a hotfix"
    # Who asked may take it back, and then nobody can grant it.
    await api(people["wendy"], "POST", f"{path}/revoke")
    await api(people["max"], "POST", f"{path}/grant", status=409)
    await api(people["max"], "POST", f"{path}/revoke", status=409)
    # Two, where the namespace wants two: also for administrators.
    await api(port.admin, "PATCH", "/namespaces/team", json={"waivers_by_two": True})
    for client, granter in ((people["max"], people["mia"]), (port.admin, people["max"])):
        made = await api(client, "POST", "/waivers", status=201, json=body)
        refused = await api(client, "POST", f"/waivers/{made['id']}/grant", status=403)
        assert "somebody else has to grant it" in refused["detail"]
        await api(granter, "POST", f"/waivers/{made['id']}/grant")
    assert await reads(port, digest) == (200, "")
    for wrong, status in (
        ({"expires_at": coming(timedelta(days=91))}, 400),
        ({"expires_at": coming(timedelta(days=-1))}, 400),
        ({"states": []}, 400),
        ({"states": ["pass"]}, 400),
        ({"states": ["blocked"]}, 400),
        ({"reason": ""}, 400),
        ({"image": "team/none"}, 404),
        ({"image": f"{REPOSITORY}@sha256:{'0' * 64}"}, 404),
        ({"image": f"{REPOSITORY}:none"}, 404),
    ):
        await api(port.admin, "POST", "/waivers", status=status, json=body | wrong)
    for word in ("", "/grant", "/revoke"):
        method = "POST" if word else "GET"
        await api(port.admin, method, f"/waivers/99{word}", status=404)
    async with port.registry.client(anonymous=True) as nobody:
        await api(nobody, "GET", f"/waivers/{made['id']}", status=404)
    await api(people["max"], "GET", "/waivers", status=403)


async def test_a_pause_warns_and_ends(port: Port) -> None:
    image = tiny_image()
    digest, worker = await port.push(image), await port.worker("one")
    await judge(port, worker, met=False)
    layer = f"/v2/{REPOSITORY}/blobs/{image.layers[0].digest}"
    body = {"namespace": "team", "until": coming(), "reason": "the release is late"}
    made = await api(port.admin, "POST", "/gate/pauses", status=201, json=body)
    assert (made["namespace"], made["actor"]) == ("team", "admin")
    status, warning = await reads(port, digest)
    assert status == 200
    assert "failed its trial" in warning
    assert "the gate of team/ is paused until " in warning
    assert warning.endswith('UTC by admin: the release is late"')
    assert (await ask(port.reader, "GET", layer)).status == 200
    assert "is paused until" in (await explained(port, digest))["explain"]
    listed = await api(port.admin, "GET", "/gate/pauses")
    assert [one["namespace"] for one in listed["items"]] == ["team"]
    # A person's block stays above.
    blocked = {"image": f"{REPOSITORY}@{digest}"}
    await api(port.admin, "POST", "/gate/block", status=204, json=blocked | {"reason": "r"})
    assert (await reads(port, digest))[0] == 403
    await api(port.admin, "POST", "/gate/unblock", status=204, json=blocked)
    await api(port.admin, "DELETE", "/gate/pauses/team", status=204)
    assert (await reads(port, digest))[0] == 403
    await api(port.admin, "DELETE", "/gate/pauses/team", status=404)
    # Again, and over by itself.
    await api(port.admin, "POST", "/gate/pauses", status=201, json=body)
    assert (await reads(port, digest))[0] == 200
    async with port.database.write() as connection:
        await connection.execute(update(pauses).values(until=db_time(timedelta(seconds=-1))))
        await move_epoch(connection, "gate")
    assert (await reads(port, digest))[0] == 403
    assert (await api(port.admin, "GET", "/gate/pauses"))["items"] == []
    assert [kind for kind in await kinds(port) if kind.startswith("gate.")] == [
        "gate.paused",
        "gate.resumed",
        "gate.paused",
    ]
    writer = (await make_token(port.admin, "repository:*:pull,push"))["token"]
    async with port.registry.client(writer) as client:
        await api(client, "POST", "/gate/pauses", status=403, json=body)
        await api(client, "DELETE", "/gate/pauses/team", status=403)
    for wrong, status in (
        ({"until": coming(timedelta(days=8))}, 400),
        ({"until": coming(timedelta(seconds=-5))}, 400),
        ({"namespace": "none"}, 404),
        ({"reason": "\n"}, 400),
    ):
        await api(port.admin, "POST", "/gate/pauses", status=status, json=body | wrong)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_end_of_a_pause_is_not_missed_by_a_known_answer(port: Port) -> None:
    digest, worker = await port.push(tiny_image()), await port.worker("one")
    await judge(port, worker, met=False)
    body = {"namespace": "team", "until": coming(timedelta(seconds=5)), "reason": "r"}
    await api(port.admin, "POST", "/gate/pauses", status=201, json=body)
    ends = datetime.fromisoformat(body["until"])
    asked_at = datetime.now(UTC)
    while (await port.pull(digest)).status == 200:
        assert asked_at < ends + timedelta(seconds=0.2), "the pause is over, and a known answer is given"
        await asyncio.sleep(0.05)
        asked_at = datetime.now(UTC)
    assert datetime.now(UTC) >= ends - timedelta(seconds=0.1)


async def test_what_a_passed_image_does_that_turns_bad(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url) as port:
        digest, worker = await port.push(tiny_image()), await port.worker("one")
        await judge(port, worker, met=True)

        async def again(*, met: bool) -> None:
            await api(port.admin, "POST", "/trials", status=201, json={"image": f"{REPOSITORY}@{digest}"})
            await judge(port, worker, met=met)

        path = f"/repositories/{REPOSITORY.replace('/', '%2F')}"
        assert (await api(port.admin, "GET", path))["turned_bad"] is None
        # As it is without a word: refused.
        await again(met=False)
        assert (await reads(port, digest))[0] == 403
        await api(port.admin, "PATCH", path, json={"turned_bad": "keep"})
        assert await reads(port, digest) == (200, "")
        await api(port.admin, "PATCH", path, json={"turned_bad": "warn"})
        status, warning = await reads(port, digest)
        assert (status, "it had passed before" in warning) == (200, True)
        await api(port.admin, "PATCH", path, json={"turned_bad": "block", "turned_bad_days": 3})
        status, warning = await reads(port, digest)
        assert (status, "and is let pass until" in warning) == (200, True)
        # It is tried again, and is not refused meanwhile.
        await api(port.admin, "POST", "/trials", status=201, json={"image": f"{REPOSITORY}@{digest}"})
        assert await port.state(digest) == "pending"
        assert (await reads(port, digest))[0] == 200
        await judge(port, worker, met=True)
        assert await reads(port, digest) == (200, "")

        async def told() -> list[int]:
            """After how many days it will be refused, as each notice said."""
            async with port.database.read() as connection:
                data = select(events.c.data).where(events.c.kind == "image.will_block").order_by(events.c.id)
                found = [json.loads(one) for one in (await connection.execute(data)).scalars()]
            assert {one["digest"] for one in found} <= {digest}
            left = [datetime.fromisoformat(one["at"]) - datetime.now(UTC) for one in found]
            return [round(one.total_seconds() / 86400) for one in left]

        # Of what had turned bad before there were days it was told when there were.
        assert await told() == [3]
        await again(met=False)
        assert await told() == [3, 3]
        # Once for each time from which on it is refused, however the policy comes and goes.
        await again(met=False)
        for policy, wanted in (
            ({"turned_bad_days": 5}, [3, 3, 5]),
            ({"turned_bad": "keep"}, [3, 3, 5]),
            ({"turned_bad": "block"}, [3, 3, 5]),
            ({"turned_bad_days": None}, [3, 3, 5]),
            ({"turned_bad_days": 3}, [3, 3, 5, 3]),
        ):
            await api(port.admin, "PATCH", path, json=policy)
            assert await told() == wanted
        layer = json.loads((await port.pull(digest)).body)["layers"][0]["digest"]
        assert (await ask(port.reader, "GET", f"/v2/{REPOSITORY}/blobs/{layer}")).status == 200
        async with port.database.write() as connection:
            await connection.execute(
                update(manifests).values(turned_bad_at=db_time(timedelta(days=-3, seconds=-1)))
            )
            await move_epoch(connection, "gate")
        assert (await reads(port, digest))[0] == 403
        assert (await ask(port.reader, "GET", f"/v2/{REPOSITORY}/blobs/{layer}")).status == 403
        # What never passed is nothing that turned bad.
        await api(port.admin, "PATCH", path, json={"turned_bad": "keep"})
        bad = await port.push(tiny_image(), tag="bad")
        await judge(port, worker, met=False)
        assert (await reads(port, bad))[0] == 403


async def test_a_namespace_says_what_gate_its_new_repositories_have(port: Port) -> None:
    await api(port.admin, "POST", "/namespaces", status=201, json={"name": "calm", "gate": "off"})
    await api(port.admin, "POST", "/namespaces", status=201, json={"name": "calm/strict", "gate": "hold"})
    for name, gate in (
        ("calm/a", "off"),
        ("calm/deep/a", "off"),
        ("calm/strict/a", "hold"),
        ("wild/a", "enforce"),
    ):
        await port.push(tiny_image(), repository=name)
        found = await api(port.admin, "GET", f"/repositories/{name.replace('/', '%2F')}")
        assert found["gate"] == gate, name
    # Said of one it is that one's; cleared, what the one above says; and what is there stays as it is.
    made = await api(port.admin, "POST", "/repositories", status=201, json={"name": "calm/b", "gate": "warn"})
    assert made["gate"] == "warn"
    await api(port.admin, "PATCH", "/namespaces/calm%2Fstrict", json={"gate": None})
    made = await api(port.admin, "POST", "/repositories", status=201, json={"name": "calm/strict/b"})
    assert made["gate"] == "off"
    kept = await api(port.admin, "GET", "/repositories/calm%2Fstrict%2Fa")
    assert kept["gate"] == "hold"
    refused = await ask(port.admin, "PATCH", "/api/v1/namespaces/calm", json={"gate": "halt"})
    assert refused.status == 400
    async with port.database.read() as connection:
        changed = await connection.execute(
            text("SELECT data FROM events WHERE kind = 'namespace.changed' ORDER BY id DESC LIMIT 1")
        )
        assert json.loads(changed.scalar_one())["gate"] == ["hold", None]
