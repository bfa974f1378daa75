"""Promotion: what goes along, what the destination makes of it, what refuses it, and back."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from sqlalchemy import delete, func, select, update

from registry.contract.isolation import SPEC_NEWS
from registry.db.accounts import workers
from registry.db.content import attestations, blob_links, blobs, manifests, repositories
from registry.db.engine import move_epoch
from registry.db.events import events
from registry.db.promotions import promotions
from registry.db.trials import parts
from registry.db.types import db_time
from registry.trials.promotionrows import sweep_requests
from tests.kit.access import api, ask, give_role, have_namespaces, make_repository, make_token, make_user
from tests.kit.distribution import push_blob, put_manifest
from tests.kit.images import OCI_MANIFEST, descriptor, digest_of, to_json
from tests.kit.plans import sent
from tests.kit.promoting import SOURCE, TO, contents, history, judge, previewed, promoted, refused
from tests.kit.server import Registry
from tests.kit.signing import attach, new_key, public_pem, signature_of
from tests.kit.trials import Port, make_error, open_port, tiny_image, tiny_index

SPEC = {"version": 1, "command": ["/app"], "expect": {"exit": 0}}


async def attached(port: Port, repository: str, subject: str, kind: str) -> str:
    """A referrer with a layer of its own."""
    held = await ask(port.admin, "GET", f"/v2/{repository}/manifests/{subject}")
    layer = f"{kind} of {subject}".encode()
    empty = "application/vnd.oci.empty.v1+json"
    raw = to_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": f"application/vnd.example.{kind}",
            "config": descriptor(b"{}", empty),
            "layers": [descriptor(layer, "text/plain")],
            "subject": descriptor(held.body, held.headers["Content-Type"]),
        }
    )
    await push_blob(port.admin, repository, b"{}")
    await push_blob(port.admin, repository, layer)
    assert (await put_manifest(port.admin, repository, digest_of(raw), raw)).status == 201
    return digest_of(raw)


async def referrers(port: Port, repository: str, digest: str) -> list[str]:
    """Those that people pushed."""
    answer = await ask(port.admin, "GET", f"/v2/{repository}/referrers/{digest}")
    listed = {one["digest"] for one in answer.json["manifests"]}
    async with port.database.read() as connection:
        own = select(manifests.c.digest).where(manifests.c.attestation_id.is_not(None))
        return sorted(listed - set((await connection.execute(own)).scalars()))


async def told(port: Port, kind: str) -> list[Any]:
    async with port.database.read() as connection:
        rows = await connection.execute(
            select(events.c.repository, events.c.actor, events.c.address, events.c.data)
            .where(events.c.kind == kind)
            .order_by(events.c.id)
        )
        return [(row.repository, row.actor, row.address, json.loads(row.data)) for row in rows]


async def test_all_that_belongs_to_an_image_goes_along(port: Port) -> None:
    index, images = tiny_index("linux/amd64", "linux/arm64")
    digest, key = await port.push(index), new_key()
    worker = await port.worker("w")
    await judge(worker)
    signature = await attach(port.admin, SOURCE, digest, signature_of(digest, key))
    sbom = await attached(port, SOURCE, images[0].digest, "sbom")
    note = await attached(port, SOURCE, sbom, "note")
    await make_repository(port.admin, TO, gate="enforce", visibility="private")
    rule = {"on": "prod/", "name": "release", "public_pem": public_pem(key)}
    await api(port.admin, "POST", "/signature-rules", status=201, json=rule)
    before = await contents(port)

    shown = await previewed(port)
    assert await contents(port) == before
    assert (shown["would"], shown["state"], shown["old_digest"]) == ("promote", "pass", None)
    assert {one["digest"] for one in shown["referrers"]} == {signature, sbom, note}
    assert [(one["verdict"], one["carried"], one["worker"]) for one in shown["verdicts"]] == [
        ("pass", True, "w")
    ]
    made = await promoted(port, reason="release 1")
    assert (made["standing"], made["digest"], made["source"]) == ("promoted", digest, f"{SOURCE}:1")
    after = await contents(port)
    # Beside what is attested here: of the index, its image and both.
    signed = after["attestations"] - before["attestations"]
    assert after["blobs"] - before["blobs"] == signed
    assert after["manifests"] - before["manifests"] == shown["manifests"] + signed == 6 + signed
    assert after["blob_links"] - before["blob_links"] == shown["blobs"] + signed == 8 + signed

    assert (await port.state("1", repository=TO), await port.state("1")) == ("pass", "pass")
    for image in (index, *images):
        assert (await port.pull(image.digest, repository=TO, client=port.admin)).body == image.manifest
    assert (await port.pull("1", repository=TO)).body == index.manifest
    for name, content in index.blobs().items():
        if content not in (index.manifest, *(image.manifest for image in images)):
            assert (await ask(port.admin, "GET", f"/v2/{TO}/blobs/{name}")).body == content
    for subject in (digest, images[0].digest, sbom):
        assert await referrers(port, TO, subject) == await referrers(port, SOURCE, subject) != []
    # It is not run again, and what is known of it is attested here as well.
    assert await worker.claim() is None
    said = await api(port.admin, "GET", "/repositories/prod%2Fapp/attestations")
    assert {(one["digest"], one["verdict"]) for one in said["items"]} >= {
        (digest, "pass"),
        (images[0].digest, "pass"),
    }
    found = await api(port.admin, "GET", "/trials", params={"image": f"{TO}:1"})
    assert [(one["state"], one["verdict"]) for one in found] == [("done", "pass")]
    # What it wrote is for those who may read that where it was run.
    assert found[0]["runs"][0]["log"] == ""

    assert await history(port) == [("promotion", digest, f"promotion {made['id']}")]
    ((where, actor, address, data),) = await told(port, "image.promoted")
    assert (where, actor, address) == (TO, "admin", "127.0.0.1")
    assert data == {"promotion": made["id"], "tag": "1", "digest": digest, "old_digest": None}

    # Again it brings nothing, and is told once.
    assert await promoted(port) == made
    assert len(await told(port, "image.promoted")) == 1
    undone = await api(port.admin, "POST", f"/promotions/{made['id']}/undo")
    assert (undone["standing"], undone["undone_by"]) == ("undone", "admin")
    assert (await port.pull("1", repository=TO)).status == 404
    assert (await port.pull(digest, repository=TO)).status == 200
    assert (await history(port))[0] == ("delete", None, f"promotion {made['id']} undone")
    assert (await ask(port.admin, "POST", f"/api/v1/promotions/{made['id']}/undo")).status == 409
    listed = await api(port.admin, "GET", "/promotions", params={"repository": TO})
    assert [one["id"] for one in listed["items"]] == [made["id"]]


async def test_what_the_destination_does_not_find_good_is_refused(port: Port) -> None:
    image, worker = tiny_image(), await port.worker("w")
    digest = await port.push(image)
    await make_repository(port.admin, TO, gate="off", trial_on_push=False)
    assert await refused(port) == [f"linux/amd64 ({digest}): it is being tried"]
    await judge(worker, met=False)
    (said,) = await refused(port)
    assert said.startswith(f"its state in {TO} would be fail: expected")
    # A waiver counts where it was granted.
    until = (await coming(port)).isoformat()
    waiver = {"image": f"{SOURCE}@{digest}", "states": ["fail"], "reason": "r", "expires_at": until}
    asked = await api(port.admin, "POST", "/waivers", status=201, json=waiver)
    await api(port.admin, "POST", f"/waivers/{asked['id']}/grant")
    assert (await port.pull("1")).status == 200
    assert len(await refused(port)) == 1

    good = tiny_image()
    digest = await port.push(good, tag="good")
    await judge(worker)
    await promoted(port, f"{SOURCE}:good", f"{TO}:good")
    # Under another run spec nothing is known, until it was tried under that where it is.
    await make_repository(port.admin, "strict/app", run_spec=SPEC)
    assert await refused(port, f"{SOURCE}:good", "strict/app:1") == [
        f"linux/amd64 ({digest}): it was not tried under the run spec of strict/app"
    ]
    trial = {"image": f"{SOURCE}@{digest}", "spec": SPEC}
    await api(port.admin, "POST", "/trials", status=201, json=trial)
    assert await refused(port, f"{SOURCE}:good", "strict/app:1") == [
        f"linux/amd64 ({digest}): it is being tried"
    ]
    await judge(worker)
    await promoted(port, f"{SOURCE}:good", "strict/app:1")

    # What was never tried, and what could not be, is no pass.
    await make_repository(port.admin, "team/untried", trial_on_push=False)
    untried = await port.push(tiny_image(), repository="team/untried")
    assert await refused(port, "team/untried:1") == [
        f"linux/amd64 ({untried}): it was not tried under the run spec of {TO}"
    ]
    broken = await port.push(tiny_image(), tag="broken")
    assert (await worker.report(await worker.claim(), **make_error("no-command"))).status == 204
    assert await refused(port, f"{SOURCE}:broken") == [
        f"linux/amd64 ({broken}): it could not be tried: no-command: it was no-command"
    ]
    # A platform that nobody runs is not known to be good.
    await port.push(tiny_image("linux/s390x"), tag="foreign")
    (said,) = await refused(port, f"{SOURCE}:foreign")
    assert f"its state in {TO} would be unsupported" in said


async def coming(port: Port) -> Any:
    async with port.database.read() as connection:
        return (await connection.execute(select(db_time(timedelta(days=1))))).scalar_one()


async def test_blocks_signatures_quotas_age_and_workers(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url, verdict_max_age_days=30) as port:
        image, worker = tiny_image(), await port.worker("w")
        digest = await port.push(image)
        await judge(worker)
        layer = json.loads(image.manifest)["layers"][0]["digest"]
        await make_repository(port.admin, TO)

        async def blocked(body: dict[str, Any], wanted: str) -> None:
            made = await api(port.admin, "POST", "/gate/blocks", status=201, json={"reason": "bad", **body})
            assert wanted in await refused(port)
            await api(port.admin, "DELETE", f"/gate/blocks/{made['id']}", status=204)

        await blocked({"on": "prod/", "digest": layer, "layer": True}, f"{digest} is blocked in {TO}: bad")
        await blocked({"on": TO, "digest": digest}, f"{digest} is blocked in {TO}: bad")
        note = await attached(port, SOURCE, digest, "note")
        await api(
            port.admin, "POST", "/gate/block", status=204, json={"image": f"{SOURCE}@{note}", "reason": "x"}
        )
        assert note not in {one["digest"] for one in (await previewed(port))["referrers"]}

        rule = {"on": "prod/", "name": "release", "public_pem": public_pem(new_key())}
        made = await api(port.admin, "POST", "/signature-rules", status=201, json=rule)
        assert await refused(port) == [f"{digest} it must be signed by release (prod/)"]
        await api(port.admin, "DELETE", f"/signature-rules/{made['id']}", status=204)

        await api(port.admin, "PATCH", "/repositories/prod%2Fapp", json={"quota_bytes": 10})
        (said,) = await refused(port)
        assert "quota" in said
        await api(port.admin, "PATCH", "/repositories/prod%2Fapp", json={"quota_bytes": None})

        await api(port.admin, "PATCH", "/repositories/prod%2Fapp", json={"worker_label": "careful"})
        wanted = [f"linux/amd64 ({digest}): w, who tried it, may not try what is in {TO}, or was revoked"]
        assert await refused(port) == wanted
        await api(port.admin, "PATCH", "/workers/w", json={"labels": ["careful"], "namespaces": ["team"]})
        assert await refused(port) == wanted
        await api(port.admin, "PATCH", "/workers/w", json={"namespaces": ["team", "pro*"]})
        # Who was revoked vouches for nothing from before, also when let in again.
        await api(port.admin, "POST", "/workers/w/revoke", status=204)
        assert await refused(port) == wanted
        await port.worker("w")
        assert await refused(port) == wanted
        async with port.database.write() as connection:
            await connection.execute(update(workers).values(admitted_at=None))

        # A verdict grows no younger by being promoted.
        async with port.database.write() as connection:
            await connection.execute(update(parts).values(finished_at=db_time(timedelta(days=-29))))
        await promoted(port)
        async with port.database.write() as connection:
            ages = select(manifests.c.state_at < db_time(timedelta(days=-28))).where(
                manifests.c.digest == digest
            )
            assert sorted((await connection.execute(ages)).scalars()) == [False, True]
            await connection.execute(update(parts).values(finished_at=db_time(timedelta(days=-31))))
        await make_repository(port.admin, "prod/old")
        (said,) = await refused(port, to="prod/old:1")
        assert "would be expired" in said

        async with port.database.write() as connection:
            held = select(blobs.c.id).where(blobs.c.digest == layer)
            await connection.execute(delete(blob_links).where(blob_links.c.blob_id.in_(held)))
            await move_epoch(connection, "content")
        assert f"blob {layer}, of which it is made, is missing" in await refused(port, to="prod/old:1")


async def test_what_is_attested_of_an_index_is_as_old_as_its_parts(port: Port) -> None:
    index, _ = tiny_index("linux/amd64", "linux/arm64")
    digest = await port.push(index)
    await judge(await port.worker("w"))
    async with port.database.write() as connection:
        await connection.execute(update(parts).values(finished_at=db_time(timedelta(days=-29))))
    await promoted(port)
    of_index = (attestations.c.digest == digest, attestations.c.kind == "result")
    there = repositories.c.id == attestations.c.repository_id
    said = select(attestations.c.found).join(repositories, there).where(repositories.c.name == TO, *of_index)
    async with port.database.read() as connection:
        found = json.loads((await connection.execute(said)).scalar_one())
        run = select(func.max(parts.c.finished_at)).where(parts.c.verdict == "pass")
        last = (await connection.execute(run)).scalar_one()
    assert found["finished_at"] == f"{last:%Y-%m-%dT%H:%M:%SZ}"


async def person(port: Port, name: str, **roles: str) -> aiohttp.ClientSession:
    password = await make_user(port.admin, name)
    await have_namespaces(port.database, *roles)
    for on, role in roles.items():
        await give_role(port.admin, f"{on}/", f"user:{name}", role)
    return await port.stack.enter_async_context(port.registry.client(password, user=name))


async def test_two_people(port: Port) -> None:
    ann = await person(port, "ann", team="reader", prod="writer")
    ben = await person(port, "ben", team="reader", prod="writer")
    cid = await person(port, "cid", prod="writer")
    worker = await port.worker("w")
    digest = await port.push(tiny_image())
    await judge(worker)
    await make_repository(port.admin, TO, visibility="private")
    await api(port.admin, "PATCH", "/namespaces/prod", json={"promotions_by_two": True})
    wanted = {"source": f"{SOURCE}:1", "to": TO, "reason": "release"}
    assert (await api(ann, "POST", "/promotions/preview", json=wanted))["would"] == "request"
    asked = await api(ann, "POST", "/promotions", status=201, json=wanted)
    assert (asked["standing"], asked["requested_by"], asked["promoted_by"]) == ("requested", "ann", None)
    assert (await port.pull("1", repository=TO, client=port.admin)).status == 404
    path = f"/promotions/{asked['id']}"

    # What is granted is what was looked at: the source's tag stands elsewhere now.
    other = await port.push(tiny_image())
    await judge(worker)
    own = await ask(ann, "POST", f"/api/v1{path}/grant")
    assert own.status == 403
    assert "somebody else has to grant it" in own.json["detail"]
    unseeing = await ask(cid, "POST", f"/api/v1{path}/grant")
    assert unseeing.status == 403
    assert SOURCE not in unseeing.body.decode()
    assert (await api(cid, "GET", path))["source"] is None
    granted = await api(ben, "POST", f"{path}/grant")
    assert (granted["standing"], granted["digest"], granted["promoted_by"]) == ("promoted", digest, "ben")
    assert digest_of((await port.pull("1", repository=TO, client=port.admin)).body) == digest
    assert (await ask(ben, "POST", f"/api/v1{path}/grant")).status == 409
    assert [one[1] for one in await told(port, "promotion.requested")] == ["ann"]
    assert [one[1] for one in await told(port, "image.promoted")] == ["ben"]

    # Where the tag moves meanwhile, nobody has looked at what would be replaced.
    stale = await api(ann, "POST", "/promotions", status=201, json=wanted)
    assert (stale["digest"], stale["old_digest"]) == (other, digest)
    await port.push(tiny_image(), repository=TO)
    late = await ask(ben, "POST", f"/api/v1/promotions/{stale['id']}/grant")
    assert late.status == 409
    assert "has moved since" in late.json["detail"]
    ended = await api(ben, "POST", f"/promotions/{stale['id']}/end")
    assert (ended["standing"], ended["ended_by"]) == ("ended", "ben")
    assert (await ask(ann, "POST", f"/api/v1/promotions/{stale['id']}/end")).status == 409

    # A request ends by itself, and what turns bad meanwhile is not granted.
    await worker.claim()
    old = await api(ann, "POST", "/promotions", status=201, json={**wanted, "to": f"{TO}:old"})
    bad = await api(ann, "POST", "/promotions", status=201, json={**wanted, "to": f"{TO}:bad"})
    async with port.database.write() as connection:
        this = update(promotions).where(promotions.c.id == old["id"])
        await connection.execute(this.values(expires_at=db_time()))
    assert (await api(ann, "GET", f"/promotions/{old['id']}"))["standing"] == "expired"
    assert (await ask(ben, "POST", f"/api/v1/promotions/{old['id']}/grant")).status == 409
    await api(
        port.admin, "POST", "/gate/block", status=204, json={"image": f"{SOURCE}@{other}", "reason": "x"}
    )
    assert (await ask(ben, "POST", f"/api/v1/promotions/{bad['id']}/grant")).status == 403
    assert (await port.pull("bad", repository=TO, client=port.admin)).status == 404


async def test_one_person_is_not_two(port: Port) -> None:
    """Neither with a robot of his, nor by saying for a moment that one is enough."""
    one = await person(port, "one", team="reader", prod="maintainer")
    await port.push(tiny_image())
    await judge(await port.worker("w"))
    await make_repository(port.admin, TO)
    by_two, by_one, unsaid = ({"promotions_by_two": value} for value in (True, False, None))
    for method, wanted, status in (
        ("PATCH", by_two, 200),
        ("PATCH", by_one, 403),
        ("PATCH", unsaid, 403),
        ("PUT", {}, 403),
        ("PUT", by_two, 200),
    ):
        answer = await ask(one, method, "/api/v1/namespaces/prod", json=wanted)
        assert answer.status == status, answer.body
    asked = await api(one, "POST", "/promotions", status=201, json={"source": f"{SOURCE}:1", "to": TO})
    assert asked["standing"] == "requested"

    await api(port.admin, "PUT", "/robots/prod+ci", status=201, json={})
    await give_role(port.admin, "prod/", "robot:prod+ci", "writer")
    token = await make_token(port.admin, "repository:*:pull,push", account="prod+ci")
    robot = await port.stack.enter_async_context(port.registry.client(token["token"], user="prod+ci"))
    refused_to = await ask(robot, "POST", f"/api/v1/promotions/{asked['id']}/grant")
    assert refused_to.status == 403
    assert "is for a person to grant" in refused_to.json["detail"]
    # An owner, here an administrator, may say that it takes one.
    await api(port.admin, "PATCH", "/namespaces/prod", json=by_one)
    # And nobody is kept from being stricter.
    await api(one, "PATCH", "/namespaces/prod", json=unsaid)


async def test_a_private_source_is_no_business_of_others(port: Port) -> None:
    out = await person(port, "out", prod="writer")
    looker = await person(port, "looker", team="reader")
    digest = await port.push(tiny_image())
    await judge(await port.worker("w"))
    await make_repository(port.admin, TO, visibility="private")
    looks = set()
    for name in (SOURCE, "team/none"):
        for source in (f"{name}:1", f"{name}:2", f"{name}@{digest}"):
            for path in ("", "/preview"):
                body = {"source": source, "to": f"{TO}:1"}
                answer = await ask(out, "POST", f"/api/v1/promotions{path}", json=body)
                said = {**answer.json, "detail": answer.json["detail"].replace(name, "NAME"), "request_id": 0}
                looks.add((answer.status, json.dumps(said).replace(name, "NAME")))
    assert [status for status, _ in looks] == [403]
    # And who may not push learns nothing of where it goes.
    for to in (TO, "prod/none"):
        body = {"source": f"{SOURCE}:1", "to": f"{to}:1"}
        assert (await ask(looker, "POST", "/api/v1/promotions", json=body)).status == 403
    made = await promoted(port)
    assert (await api(out, "GET", f"/promotions/{made['id']}"))["source"] is None
    feed = await ask(out, "GET", "/api/v1/events", params={"repository": TO, "kind": "image.*", "wait": 20})
    assert "image.promoted" in feed.body.decode()
    assert SOURCE not in feed.body.decode()
    hist = await ask(out, "GET", f"/api/v1/repositories/{quote(TO, safe='')}/tags/1/history")
    assert SOURCE not in hist.body.decode()
    assert (await ask(looker, "GET", f"/api/v1/promotions/{made['id']}")).status == 404
    assert (await ask(looker, "GET", "/api/v1/promotions", params={"repository": TO})).status == 403
    assert (await ask(out, "GET", "/api/v1/promotions")).status == 403


async def test_back_only_where_nobody_has_moved_the_tag(port: Port) -> None:
    worker = await port.worker("w")
    first = await port.push(tiny_image(), repository=TO)
    await judge(worker)
    digest = await port.push(tiny_image())
    await judge(worker)
    made = await promoted(port)
    assert made["old_digest"] == first
    undone = await api(port.admin, "POST", f"/promotions/{made['id']}/undo")
    assert undone["standing"] == "undone"
    assert digest_of((await port.pull("1", repository=TO)).body) == first
    assert [one[0] for one in await history(port)] == ["rollback", "promotion", "push"]

    made = await promoted(port)
    await put_manifest(port.admin, TO, "1", (await port.pull(first, repository=TO)).body)
    await put_manifest(port.admin, TO, "1", (await port.pull(digest, repository=TO)).body)
    late = await ask(port.admin, "POST", f"/api/v1/promotions/{made['id']}/undo")
    assert late.status == 409
    assert "was moved since" in late.json["detail"]
    # Where the tag stands there already, by another promotion or a push, there is nothing to take back.
    await port.push(tiny_image(), tag="2", repository=TO)
    await put_manifest(port.admin, TO, "2", (await port.pull(digest, repository=TO)).body)
    still = await promoted(port, to=f"{TO}:2")
    assert still["old_digest"] == digest
    assert (await ask(port.admin, "POST", f"/api/v1/promotions/{still['id']}/undo")).status == 409
    # A tag in the same repository is promoted as well: nothing is copied.
    within = await promoted(port, f"{TO}:1", f"{TO}:stable")
    assert (await history(port, "stable"))[0][2] == f"promotion {within['id']}"
    # Also where no line but the last is kept: SQLite gives the number of one that is gone to the next.
    await api(port.admin, "PATCH", "/repositories/prod%2Fapp", json={"history_keep_lines": 1})
    old = (await port.pull(first, repository=TO)).body
    await put_manifest(port.admin, TO, "3", old)
    made = await promoted(port, to=f"{TO}:3")
    await put_manifest(port.admin, TO, "3", old)
    late = await ask(port.admin, "POST", f"/api/v1/promotions/{made['id']}/undo")
    assert (late.status, "was moved since" in late.json["detail"]) == (409, True)


async def test_a_verdict_with_the_secrets_of_elsewhere_does_not_count(port: Port) -> None:
    image, worker = tiny_image(), await port.worker("w")
    digest = await port.push(image)
    await judge(worker)
    spec = {**SPEC, "env": {"KEY": {"secret": "DB"}}}
    await make_repository(port.admin, TO)
    for name in (SOURCE, TO):
        kept = {"name": "DB", "value": f"that of {name}", "repository": name}
        await api(port.admin, "POST", "/secrets", status=201, json=kept)
    await api(port.admin, "PATCH", "/repositories/prod%2Fapp", json={"run_spec": spec})
    trial = {"image": f"{SOURCE}@{digest}", "spec": spec}
    await api(port.admin, "POST", "/trials", status=201, json=trial)
    await judge(worker, mechanisms=SPEC_NEWS)
    assert await refused(port) == [
        f"linux/amd64 ({digest}): the run spec of {TO} names secrets, so it is tried there: push it there"
    ]
    await port.push(image, repository=TO, tag=digest)
    await judge(worker, mechanisms=SPEC_NEWS)
    made = await promoted(port)
    assert (made["standing"], await port.state("1", repository=TO)) == ("promoted", "pass")


async def test_nobody_waits_for_a_preview(port: Port) -> None:
    await port.push(tiny_image())
    await judge(await port.worker("w"))
    await promoted(port, to=f"{TO}:0")
    await contents(port)  # all is signed by then
    with sent() as statements:
        assert (await previewed(port))["would"] == "promote"
    assert not [one.text for one in statements if one.text.startswith("UPDATE epochs")]


async def test_requests_are_counted_and_go(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.trials.promotions.OPEN_MAX", 2)
    await port.push(tiny_image())
    await judge(await port.worker("w"))
    await make_repository(port.admin, TO)
    await api(port.admin, "PATCH", "/namespaces/prod", json={"promotions_by_two": True})
    wanted = [{"source": f"{SOURCE}:1", "to": f"{TO}:{number}"} for number in range(6)]
    asked = await asyncio.gather(*(ask(port.admin, "POST", "/api/v1/promotions", json=one) for one in wanted))
    assert sorted(one.status for one in asked) == [201, 201, 409, 409, 409, 409]
    first, second = (one.json["id"] for one in asked if one.status == 201)
    async with port.database.write() as connection:
        this = update(promotions).where(promotions.c.id == first)
        await connection.execute(this.values(expires_at=db_time(timedelta(days=-31))))
    assert (await sweep_requests(port.database), await sweep_requests(port.database)) == (1, 0)
    listed = await api(port.admin, "GET", "/promotions", params={"repository": TO})
    assert [one["id"] for one in listed["items"]] == [second]


async def test_back_is_no_more_than_by_hand(port: Port) -> None:
    """What was dropped meanwhile is tried then, and a new tag goes only for who may delete it."""
    ann = await person(port, "ann", prod="writer")
    worker = await port.worker("w")
    await port.push(tiny_image())
    await judge(worker)
    waiting = await port.push(tiny_image(), repository=TO)
    made = await promoted(port)
    assert await worker.claim() is None
    assert await port.state(waiting, repository=TO) == "error"
    await api(ann, "POST", f"/promotions/{made['id']}/undo")
    assert await port.state("1", repository=TO) == "pending"
    assert (await worker.claim())["digest"] == waiting

    made = await promoted(port, to=f"{TO}:new")
    assert (await ask(ann, "POST", f"/api/v1/promotions/{made['id']}/undo")).status == 403
    assert (await port.pull("new", repository=TO)).status == 200
    await api(port.admin, "POST", f"/promotions/{made['id']}/undo")
    assert (await port.pull("new", repository=TO)).status == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {"source": "team/app:1", "to": "prod/app@sha256:" + "0" * 64},
        {"source": "team/app@sha256:" + "0" * 64, "to": "prod/app"},
        {"source": "team/app:1", "to": "Prod/app"},
        {"source": "team/app:1", "to": "prod/app:" + "x" * 129},
        {"source": "team/app:1", "to": "prod/app", "reason": "two\nlines"},
        {"source": "team/app:1"},
    ],
)
async def test_what_is_no_promotion(registry: Registry, client: aiohttp.ClientSession, wrong: Any) -> None:
    assert (await ask(client, "POST", "/api/v1/promotions", json=wrong)).status == 400
    assert (await ask(client, "POST", "/api/v1/promotions/preview", json=wrong)).status == 400
