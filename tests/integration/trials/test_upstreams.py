"""Images of other registries: copied by the registry, seen by nobody but the worker that tries them."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select, update

from registry.auth.actor import Actor
from registry.content import administration
from registry.content.collecting import review_links
from registry.db.content import blob_links, blobs, manifests, repositories
from registry.db.events import events
from registry.db.trials import parts, trials
from registry.db.types import db_time
from registry.db.upstreams import upstream_copies, upstreams
from registry.trials import requests, upstreamkeeping, upstreamtrials
from registry.trials.upstreams import remove
from tests.kit.access import api, ask, give_role, have_namespaces, make_token, make_user
from tests.kit.distribution import push_image
from tests.kit.images import Image, digest_of, make_index, to_json
from tests.kit.receiver import running_receiver
from tests.kit.server import ADMIN, RegistryProcess, running_registry
from tests.kit.trials import REPOSITORY, Port, open_port, tiny_image, tiny_index
from tests.kit.upstream import SECONDS, Elsewhere, Said, add, claimed, ended, running_elsewhere, start

HIDDEN = "team/seatrial__upstream__other"


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


async def reason(port: Port, image: str, *, upstream: str = "other") -> str:
    """Why an image cannot be tried."""
    shown = await ended(port.admin, await start(port.admin, image, upstream=upstream))
    assert (shown["verdict"], shown["runs"], shown["digest"]) == ("error", [], "")
    return str(shown["reason"])


async def test_an_image_of_another_registry_is_copied_and_tried_and_seen_by_nobody(
    port: Port, tmp_path: Path, sqlite_template: Path
) -> None:
    shutil.copyfile(sqlite_template, tmp_path / "other.db")
    async with running_registry(tmp_path / "other", f"sqlite:///{tmp_path / 'other.db'}") as other:
        index, (image, for_arm) = tiny_index("linux/amd64", "linux/arm64")
        async with other.client() as pusher:
            digest = await push_image(pusher, "lib/app", "1", index)
            password = (await make_token(pusher, "repository:lib/*:pull"))["token"]
        writer = port.registry.client(await make_user(port.admin, "wanda"), user="wanda")
        stranger = port.registry.client(await make_user(port.admin, "sam"), user="sam")
        async with writer, stranger:
            await give_role(port.admin, "team/", "user:wanda", "writer")
            wanted = {"repositories": ["lib/*"], "username": ADMIN, "secret": password}
            refused = {"name": "other", "namespace": "team", "host": other.host, "plain_http": True, **wanted}
            await api(writer, "POST", "/upstreams", status=403, json=refused)
            added = await add(port.admin, other.host, **wanted)
            assert (added["place"], added["has_secret"], added["username"]) == ("team/", True, ADMIN)
            assert await api(writer, "GET", "/upstreams/other") == added
            assert (await api(writer, "GET", "/upstreams?namespace=team"))["items"] == [added]
            await api(stranger, "GET", "/upstreams/other", status=404)
            await api(stranger, "GET", "/upstreams?namespace=team", status=403)
            asked = {"upstream": "other", "image": "lib/app:1"}
            await api(stranger, "POST", "/trials", status=404, json=asked)
            await api(writer, "POST", "/trials", status=403, json={**asked, "image": "lib:1"})
            service = {"name": "db", "image": "team/db:1", "ready": {"tcp": 5432}}
            for given in ({"env": {"A": {"secret": "B"}}}, {"services": [service]}):
                spec = {"version": 1, **given}
                refused = await api(writer, "POST", "/trials", status=400, json={**asked, "spec": spec})
                assert "no secrets or services" in refused["detail"]

            trial = await start(writer, "lib/app:1")
            assert (trial["state"], trial["digest"]) == ("queued", "")
            assert trial["upstream"] == "other/lib/app:1"
            assert "copied" in trial["reason"]
            worker = await port.worker("w")
            job = await claimed(worker)
            assert (job["repository"], job["digest"]) == (HIDDEN, image.digest)
            shown = await api(writer, "GET", f"/trials/{trial['id']}")
            assert (shown["digest"], [part["digest"] for part in shown["parts"]]) == (digest, [image.digest])
            puller = await port.puller(job)
            manifest = await ask(puller, "GET", f"/v2/{HIDDEN}/manifests/{image.digest}")
            assert (manifest.status, manifest.body) == (200, image.manifest)
            for layer in image.layers:
                got = await ask(puller, "GET", f"/v2/{HIDDEN}/blobs/{layer.digest}")
                assert (got.status, got.body) == (200, layer.blob)

            for client in (port.admin, port.reader, writer, stranger):
                await require_hidden(client, image)
            missing = await ask(port.admin, "GET", f"/v2/{HIDDEN}/manifests/{for_arm.digest}")
            assert missing.status == 403
            assert (await worker.report(job)).status == 204
            shown = await ended(writer, trial)
            assert (shown["verdict"], shown["runs"][0]["log"]) == ("pass", "hello\n")
            assert trial["id"] in [one["id"] for one in await api(writer, "GET", "/trials")]
            await api(stranger, "GET", f"/trials/{trial['id']}", status=404)
            assert trial["id"] not in [one["id"] for one in await api(stranger, "GET", "/trials")]

            # What is there is not fetched again, and the same question is asked again.
            async with other.client() as pusher:
                for held in image.layers:
                    assert (await ask(pusher, "DELETE", f"/v2/lib/app/blobs/{held.digest}")).status == 202
            again = await start(writer, f"lib/app@{digest}")
            assert (await worker.report(await claimed(worker), exit_code=1, met=False)).status == 204
            assert (await ended(writer, again))["verdict"] == "fail"

            async with port.database.read() as connection:
                rows = (await connection.execute(select(events.c.data, events.c.target))).all()
            assert not [row for row in rows if password in f"{row.data}{row.target}"]
            await api(writer, "DELETE", "/upstreams/other", status=403)
            await api(port.admin, "DELETE", "/upstreams/other", status=204)
            await api(writer, "GET", f"/trials/{trial['id']}", status=404)
            await add(port.admin, other.host)


async def require_hidden(client: aiohttp.ClientSession, image: Image) -> None:
    """Neither is it listed, nor can it be pulled, pushed to, copied from or changed."""
    layer = image.layers[0].digest
    for method, path in (
        ("GET", f"/v2/{HIDDEN}/manifests/{image.digest}"),
        ("HEAD", f"/v2/{HIDDEN}/manifests/{image.digest}"),
        ("GET", f"/v2/{HIDDEN}/blobs/{layer}"),
        ("GET", f"/v2/{HIDDEN}/tags/list"),
        ("POST", f"/v2/{HIDDEN}/blobs/uploads/"),
        ("DELETE", f"/v2/{HIDDEN}/blobs/{layer}"),
        ("GET", f"/api/v1/repositories/{HIDDEN.replace('/', '%2F')}"),
        ("DELETE", f"/api/v1/repositories/{HIDDEN.replace('/', '%2F')}"),
    ):
        assert (await ask(client, method, path)).status in (401, 403, 404), (method, path)
    catalog = await ask(client, "GET", "/v2/_catalog")
    listed = await ask(client, "GET", "/api/v1/repositories")
    assert HIDDEN not in catalog.body.decode() + listed.body.decode()
    mounted = await ask(client, "POST", f"/v2/team/mine/blobs/uploads/?mount={layer}&from={HIDDEN}")
    assert mounted.status in (202, 401, 403), "an upload is begun, or none"
    promoted = {"source": f"{HIDDEN}@{image.digest}", "to": "team/mine:1"}
    assert (await ask(client, "POST", "/api/v1/promotions", json=promoted)).status in (401, 403, 404)


def changed(image: Image, **layer: Any) -> Said:
    """The manifest of an image, with other members in its layer."""
    document = json.loads(image.manifest)
    document["layers"][0].update(layer)
    return Said(body=to_json(document), headers={"Content-Type": image.media_type})


async def test_what_cannot_be_copied_ends_with_a_reason(
    port: Port, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstreamtrials, "PAUSES", (timedelta(0),) * 3)
    held, other = tiny_image(), tiny_image()
    content, digest = held.layers[0].blob, held.layers[0].digest
    as_manifest = {"Content-Type": held.media_type}
    document = json.loads(held.manifest)
    document["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
    document["layers"][0]["mediaType"] = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
    instead_of_manifest = [
        (Said(404), "has no"),
        (Said(401), "refuses"),
        (Said(403), "as nobody"),
        (Said(429), "no more requests for now (429); it was tried 4 times"),
        (Said(500), "answers 500"),
        (Said(302, headers={"Location": "/x"}), "answers 302"),
        (Said(body=b"<html>", headers={"Content-Type": "text/html"}), "is no image"),
        (Said(body=b" " * (5 * 1024**2)), "answers more than"),
        (Said(body=b"{}", headers={"Content-Encoding": "gzip"}), "compressed"),
        (Said(body=to_json(document), headers=as_manifest), "nothing that can be run"),
        (changed(held, size=10**6), "are the limit of other"),
        (changed(held, digest="md5:" + "0" * 32), "not verified here"),
        (
            Said(401, headers={"WWW-Authenticate": 'Bearer realm="file:///etc/passwd"'}),
            "names no token service",
        ),
        (
            Said(401, headers={"WWW-Authenticate": 'Bearer realm="http://169.254.169.254/"'}),
            "may not be asked",
        ),
    ]
    instead_of_layer = [
        (Said(body=content[:-1]), "has other bytes"),
        (Said(body=content[:-1] + b"?"), "has other bytes"),
        (Said(body=content + b"?"), "has more than"),
        (Said(404), f"has no the blob {digest}"),
        (Said(302, headers={"Location": "."}), "has no the blob"),
        (Said(301, headers={"Location": ""}), "redirects more than"),
        (Said(307, headers={"Location": "ftp://127.0.0.1/"}), "leads to no address"),
        (Said(307, headers={"Location": "http://169.254.169.254/latest/"}), "may not be asked"),
        (Said(307, headers={"Location": "http://10.0.0.1/"}), "may not be asked"),
        (Said(307, headers={"Location": "http://[::1]/"}), "may not be asked"),
    ]
    expected = {}
    await add(port.admin, elsewhere.host, max_bytes=100_000)
    for number, (said, why) in enumerate([*instead_of_manifest, *instead_of_layer]):
        elsewhere.hold(f"lib/{number}", "1", held)
        instead = "manifests/1" if number < len(instead_of_manifest) else f"blobs/{digest}"
        elsewhere.answers[f"/v2/lib/{number}/{instead}"] = said
        expected[f"lib/{number}:1"] = why
    elsewhere.hold("lib/arm", "1", make_index(tiny_image("linux/arm64")))
    expected["lib/arm:1"] = "has no image for linux/amd64, but for linux/arm64"
    elsewhere.answers[f"/v2/lib/app/manifests/{other.digest}"] = Said(body=held.manifest, headers=as_manifest)
    expected[f"lib/app@{other.digest}"] = "with other bytes"
    await add(port.admin, "127.0.0.1:1", name="nobody")
    asked = {image: await start(port.admin, image) for image in expected}
    lost = await start(port.admin, "lib/app:1", upstream="nobody")
    for image, trial in asked.items():
        shown = await ended(port.admin, trial)
        assert (shown["verdict"], shown["runs"]) == ("error", [])
        assert expected[image] in shown["reason"], image
    assert "cannot be reached" in (await ended(port.admin, lost))["reason"]
    assert elsewhere.times("/x") == 0
    # Asked again was what may pass, and nothing else.
    often = [elsewhere.times(f"/v2/lib/{number}/manifests/1") for number in range(6)]
    assert often == [1, 1, 1, 4, 4, 1]
    # And what was wrong is not in the way of what is right.
    elsewhere.hold("lib/app", "1", held)
    trial = await start(port.admin, "lib/app:1")
    worker = await port.worker("w")
    assert (await worker.report(await claimed(worker))).status == 204
    assert (await ended(port.admin, trial))["verdict"] == "pass"


async def test_a_credential_goes_to_no_other_host(port: Port, elsewhere: Elsewhere) -> None:
    held = tiny_image()
    elsewhere.hold("lib/app", "1", held)
    answers, layer = elsewhere.answers, f"/v2/lib/app/blobs/{held.layers[0].digest}"
    credential = {"username": "ursula", "secret": "only for ursula"}
    manifest = answers["/v2/lib/app/manifests/1"]

    def realm(host: str) -> Said:
        challenge = f'Bearer realm="http://{host}/token",service="x",scope="repository:other:push"'
        return Said(401, headers={"WWW-Authenticate": challenge})

    answers["/token"] = Said(body=b'{"token": "a.b.c"}')
    await add(port.admin, elsewhere.host, **credential)
    answers["/v2/lib/app/manifests/1"] = realm(elsewhere.other_host)
    assert "is not told the credential" in await reason(port, "lib/app:1")
    assert elsewhere.times("/token") == 0
    answers["/v2/lib/app/manifests/1"] = realm("169.254.169.254")
    assert "is not told the credential" in await reason(port, "lib/app:1")
    await add(port.admin, elsewhere.host, name="hubby", token_host=elsewhere.other_host, **credential)
    answers["/v2/lib/app/manifests/1"] = realm(elsewhere.other_host)
    assert "refuses lib/app 1 (401)" in await reason(port, "lib/app:1", upstream="hubby")
    told = [(host, said) for host, path, said in elsewhere.asked if path == "/token"]
    assert told == [(elsewhere.other_host, aiohttp.encode_basic_auth("ursula", "only for ursula"))]

    # A blob is fetched where the registry says, by nobody.
    await add(port.admin, elsewhere.host, name="direct", secret="a-token-of-its-own")
    answers["/v2/lib/app/manifests/1"] = manifest
    answers["/elsewhere"] = answers[layer]
    answers[layer] = Said(307, headers={"Location": f"http://{elsewhere.other_host}/elsewhere"})
    trial = await start(port.admin, "lib/app:1", upstream="direct")
    worker = await port.worker("w")
    assert (await worker.report(await claimed(worker))).status == 204
    assert (await ended(port.admin, trial))["verdict"] == "pass"
    assert [(host, said) for host, path, said in elsewhere.asked if path == "/elsewhere"] == [
        (elsewhere.other_host, None)
    ]
    assert (elsewhere.host, layer, "Bearer a-token-of-its-own") in elsewhere.asked
    for name in ("other", "hubby", "direct"):
        shown = await api(port.admin, "GET", f"/upstreams/{name}")
        assert "only for" not in str(shown)
        assert "of-its-own" not in str(shown)


async def test_what_is_asked_for_wrongly_is_refused(port: Port) -> None:
    good = {"name": "other", "namespace": "team", "host": "docker.example"}
    for wrong, said in (
        ({"name": "No"}, "no name of an upstream"),
        ({"name": "a__b"}, "no name of an upstream"),
        ({"host": "docker"}, "no host"),
        ({"host": "user@docker.example"}, "no host"),
        ({"host": "docker.example/v2"}, "no host"),
        ({"token_host": "x y.example"}, "no host"),
        ({"repositories": []}, "give 1 to"),
        ({"repositories": ["a?"]}, "no name of repositories"),
        ({"username": "u"}, "has a password"),
        ({"username": "u:v", "secret": "s"}, "no colon"),
        ({"secret": "a\nb"}, "printable"),
    ):
        refused = await api(port.admin, "POST", "/upstreams", status=400, json={**good, **wrong})
        assert said in refused["detail"]
    for host, plain in (("169.254.169.254:80", True), ("10.0.0.1", False), ("[::1]:5000", False)):
        wrong = {**good, "host": host, "plain_http": plain}
        await api(port.admin, "POST", "/upstreams", status=503, json=wrong)
    await api(port.admin, "POST", "/upstreams", status=404, json={**good, "namespace": "none"})
    made = await api(port.admin, "POST", "/upstreams", status=201, json=good)
    assert made["repositories"] == ["*"]
    await api(port.admin, "POST", "/upstreams", status=409, json=good)
    for name in (HIDDEN, "team/seatrial__upstream__else"):
        await api(port.admin, "POST", "/repositories", status=403, json={"name": name})
        answer = await ask(port.admin, "POST", f"/v2/{name}/blobs/uploads/")
        assert answer.status == 403
        assert "another registry" in answer.body.decode()


async def test_a_message_asks_for_an_image_elsewhere_and_is_told_the_end(
    port: Port, elsewhere: Elsewhere
) -> None:
    elsewhere.hold("lib/app", "1", tiny_image())
    await add(port.admin, elsewhere.host)
    async with running_receiver() as receiver:
        wanted = {"name": "ci", "scheme": "bearer", "upstream": "other", "call_back": receiver.url}
        await api(port.admin, "POST", "/hooks", status=400, json=wanted)
        hook = await api(port.admin, "POST", "/hooks", status=201, json={**wanted, "namespace": "team"})
        assert hook["upstream"] == "other"
        receiver.secrets = [hook["call_back_secret"]]
        await api(port.admin, "DELETE", "/upstreams/other", status=409)

        async def send(image: str) -> tuple[int, Any]:
            async with aiohttp.ClientSession(port.registry.url) as nobody:
                body = json.dumps({"image": image}).encode()
                headers = {"Authorization": f"Bearer {hook['secret']}", "Content-Type": "application/json"}
                got = await ask(nobody, "POST", "/hooks/ci", data=io.BytesIO(body), headers=headers)
                return got.status, got.json

        assert (await send("docker.example/lib/app:1"))[0] == 400
        first = await send(f"{elsewhere.host}/lib/app:1")
        second = await send("lib/app:none")
        assert (first[0], second[0]) == (202, 202)
        worker = await port.worker("w")
        assert (await worker.report(await claimed(worker))).status == 204
        got = await receiver.until(2, seconds=SECONDS)
        told = [each.json["data"]["details"] for each in got]
        ends = {each["trial"]: each["verdict"] for each in told}
        assert ends == {first[1]["trials"][0]["id"]: "pass", second[1]["trials"][0]["id"]: "error"}


async def test_copies_are_kept_as_long_as_their_trials(port: Port, elsewhere: Elsewhere) -> None:
    image, young = tiny_image(), tiny_image()
    elsewhere.hold("lib/app", "1-amd64", image)
    elsewhere.hold("lib/app", "1", make_index(image))
    elsewhere.hold("lib/app", "2", young)
    await add(port.admin, elsewhere.host)
    worker = await port.worker("w")
    for tag in ("1", "2"):
        trial = await start(port.admin, f"lib/app:{tag}")
        assert (await worker.report(await claimed(worker))).status == 204
        assert (await ended(port.admin, trial))["verdict"] == "pass"
    mine = await port.push(image)
    assert await upstreamkeeping.sweep(port.database, days=1) == 0
    days = timedelta(days=2)
    async with port.database.write() as connection:
        for table, column in ((trials, "created_at"), (parts, "finished_at"), (manifests, "pushed_at")):
            of_young = table.c.digest == young.digest
            await connection.execute(update(table).where(~of_young).values({column: db_time(-days)}))
        hidden = select(repositories.c.id).where(repositories.c.name == HIDDEN)
        repository_id = (await connection.execute(hidden)).scalar_one()
    waiting = await start(port.admin, "lib/app:none")
    held = await upstreamtrials.take(port.database)
    if held is not None:
        assert await upstreamkeeping.sweep(port.database, days=1) == 0, "somebody is at a copy"
        await upstreamtrials.give_back(port.database, held)
    await ended(port.admin, waiting)
    assert await upstreamkeeping.sweep(port.database, days=1) == 2, "the index and its image"
    async with port.database.read() as connection:
        left = select(manifests.c.digest).where(
            manifests.c.repository_id == repository_id, manifests.c.attestation_id.is_(None)
        )
        assert list((await connection.execute(left)).scalars()) == [young.digest]
    for _ in ("condemned", "removed"):
        await review_links(port.database, grace=timedelta(0))
    async with port.database.read() as connection:
        linked = (
            select(blobs.c.digest)
            .join(blob_links, blob_links.c.blob_id == blobs.c.id)
            .where(blob_links.c.repository_id == repository_id)
        )
        shown = set((await connection.execute(linked)).scalars())
    assert {layer.digest for layer in young.layers} <= shown
    assert not {layer.digest for layer in image.layers} & shown
    assert (await port.pull(mine, client=port.admin)).status == 200
    for layer in image.layers:
        assert (await ask(port.admin, "GET", f"/v2/{REPOSITORY}/blobs/{layer.digest}")).status == 200


async def test_what_waits_for_a_copy_counts_and_is_left_to_it(port: Port, elsewhere: Elsewhere) -> None:
    held = tiny_image()
    elsewhere.hold("lib/app", "1", held)
    layer = f"/v2/lib/app/blobs/{held.layers[0].digest}"
    gate = asyncio.Event()
    elsewhere.answers[layer] = Said(body=elsewhere.answers[layer].body, waits=gate)
    await add(port.admin, elsewhere.host)
    await have_namespaces(port.database, "team/sub")
    await add(port.admin, elsewhere.host, name="below", namespace="team/sub")
    trial = await start(port.admin, "lib/app:1")
    await elsewhere.until(layer)
    # One at a time of all below the namespace at the top.
    below = await start(port.admin, "lib/app:none", upstream="below")
    assert await upstreamtrials.take(port.database) is None
    assert (await api(port.admin, "GET", f"/trials/{below['id']}"))["state"] == "queued"
    # What waits for its image waits as well.
    await api(port.admin, "PATCH", "/namespaces/team", json={"trial_queue_max": 2})
    asked = {"upstream": "other", "image": "lib/app:2"}
    refused = await api(port.admin, "POST", "/trials", status=429, json=asked)
    assert "as many images waiting to be tried as it may: 2" in refused["detail"]
    # A sweep that found something old before this copy began.
    this = select(upstreams.c.id).where(upstreams.c.name == "other")
    async with port.database.write() as connection:
        upstream_id = (await connection.execute(this)).scalar_one()
        assert await upstreamkeeping.sweep_one(connection, upstream_id, days=1) == 0
    gate.set()
    worker = await port.worker("w")
    assert (await worker.report(await claimed(worker))).status == 204
    assert (await ended(port.admin, trial))["verdict"] == "pass"


async def test_a_copied_image_is_tried_under_so_many_specs_and_no_more(
    port: Port, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "SPECS_MAX", 2)
    elsewhere.hold("lib/app", "1", tiny_image())
    await add(port.admin, elsewhere.host)
    worker = await port.worker("w")
    specs = [{"version": 1, "env": {"N": str(number)}} for number in range(3)]
    for spec in (*specs[:2], specs[0]):
        trial = await start(port.admin, "lib/app:1", spec=spec)
        assert (await worker.report(await claimed(worker))).status == 204
        assert (await ended(port.admin, trial))["verdict"] == "pass"
    shown = await ended(port.admin, await start(port.admin, "lib/app:1", spec=specs[2]))
    assert shown["verdict"] == "error"
    assert "was tried under 2 run specs" in shown["reason"]


async def test_an_upstream_goes_with_its_copies_or_not_at_all(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = await add(port.admin, "docker.example", plain_http=False)
    services = port.registry.services
    assert services is not None
    boss = Actor(kind="user", name="root", is_admin=True)

    async def killed(*_: Any) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as patched:
        patched.setattr(administration, "bury", killed)
        with pytest.raises(ConnectionResetError):
            await remove(services.database, services.blobs, services.settings, actor=boss, name="other")
    assert await api(port.admin, "GET", "/upstreams/other") == added
    await remove(services.database, services.blobs, services.settings, actor=boss, name="other")
    async with port.database.read() as connection:
        hidden = select(repositories.c.id).where(repositories.c.name == HIDDEN)
        assert (await connection.execute(hidden)).first() is None


async def test_a_killed_registry_goes_on_with_what_it_had(tmp_path: Path, elsewhere: Elsewhere) -> None:
    """On SQLite alone: what counts is the process."""
    held = tiny_image()
    elsewhere.hold("lib/app", "1", held)
    config = f"/v2/lib/app/blobs/{digest_of(held.config)}"
    layer = f"/v2/lib/app/blobs/{held.layers[0].digest}"
    gate, content = asyncio.Event(), elsewhere.answers[layer].body
    elsewhere.answers[layer] = Said(body=content, waits=gate)
    server = RegistryProcess(
        tmp_path / "data", trial_platforms="linux/amd64", outgoing_networks="127.0.0.0/8"
    )
    try:
        registry = await asyncio.to_thread(server.start)
        async with registry.client() as admin:
            await api(admin, "POST", "/namespaces", status=201, json={"name": "team"})
            await add(admin, elsewhere.host)
            trial = await start(admin, "lib/app:1")
            await elsewhere.until(layer)
        await asyncio.to_thread(server.kill)
        with closing(sqlite3.connect(tmp_path / "data" / "seatrial.db")) as database:
            # As if its lease had run out meanwhile.
            database.execute("UPDATE upstream_copies SET run_after = 0")
            database.commit()
        gate.set()
        registry = await asyncio.to_thread(server.start)
        async with registry.client() as admin:
            for _ in range(SECONDS * 10):
                shown = await api(admin, "GET", f"/trials/{trial['id']}")
                if shown["parts"]:
                    break
                await asyncio.sleep(0.1)
            assert [part["digest"] for part in shown["parts"]] == [held.digest]
    finally:
        await asyncio.to_thread(server.stop)
    assert (elsewhere.times(config), elsewhere.times(layer)) == (1, 2)


async def test_one_process_at_a_time_is_at_a_copy_and_another_follows(
    port: Port, elsewhere: Elsewhere
) -> None:
    held = tiny_image()
    elsewhere.hold("lib/app", "1", held)
    layer = f"/v2/lib/app/blobs/{held.layers[0].digest}"
    gate = asyncio.Event()
    content = elsewhere.answers[layer].body
    elsewhere.answers[layer] = Said(body=content, waits=gate)
    await add(port.admin, elsewhere.host)
    trial = await start(port.admin, "lib/app:1")
    await elsewhere.until(layer)
    assert (await api(port.admin, "GET", f"/trials/{trial['id']}"))["state"] == "running"
    waiting = await start(port.admin, "lib/app:none")
    assert await upstreamtrials.take(port.database) is None, "of a namespace one at a time"
    # As if the process had been killed: its lease runs out, and what it still says counts no more.
    async with port.database.write() as connection:
        await connection.execute(update(upstream_copies).values(run_after=db_time()))
    taken = [await upstreamtrials.take(port.database) for _ in range(2)]
    copies = {copy.trial_id: copy for copy in taken if copy is not None}
    assert set(copies) <= {trial["id"], waiting["id"]}
    gate.set()
    for copy in copies.values():
        await upstreamtrials.give_back(port.database, copy)
    worker = await port.worker("w")
    assert (await worker.report(await claimed(worker))).status == 204
    assert (await ended(port.admin, trial))["verdict"] == "pass"
    assert (await ended(port.admin, waiting))["verdict"] == "error"
