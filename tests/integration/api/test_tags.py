"""``/api/v1``: the history of tags, what was deleted and comes back, and finding tags."""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from sqlalchemy import func, insert, select, update

from registry.content import restoring, taghistory
from registry.content.tags import learn_versions
from registry.db.content import (
    blob_links,
    deleted_manifests,
    manifest_contents,
    manifests,
    tag_history,
    tags,
)
from registry.db.engine import Database
from registry.db.signatures import signatures
from registry.db.types import db_time
from tests.kit.access import api, ask, basic, give_role, make_repository, make_token, make_user
from tests.kit.collecting import collect
from tests.kit.crashing import RESTORATION_POINTS, CrashingServer
from tests.kit.distribution import (
    EMPTY_CONFIG,
    push_blob,
    push_image,
    push_small,
    put_manifest,
    small_manifest,
)
from tests.kit.images import digest_of
from tests.kit.server import Registry
from tests.kit.trials import tiny_image, tiny_index

NAME, PATH = "team/app", "/repositories/team%2Fapp"
TAG = f"{PATH}/tags/1"


def database_of(registry: Registry) -> Database:
    assert registry.services is not None
    return registry.services.database


async def pushed(client: aiohttp.ClientSession, tag: str = "1", number: int = 1) -> str:
    return await push_small(client, NAME, tag, annotations={"n": str(number)})


async def moves(client: aiohttp.ClientSession, tag: str = "1") -> list[dict[str, Any]]:
    return list((await api(client, "GET", f"{PATH}/tags/{tag}/history"))["items"])


async def names(client: aiohttp.ClientSession, **query: str) -> list[str]:
    return [one["name"] for one in (await api(client, "GET", f"{PATH}/tags", params=query))["items"]]


async def test_a_line_says_who_moved_a_tag_from_where_with_what_and_why(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await make_repository(client, NAME, visibility="public")
    one = await pushed(client)
    made = await make_token(client, f"repository:{NAME}:pull,push,delete", name="of ci")
    async with aiohttp.ClientSession(client._base_url, headers=basic("x", str(made["token"]))) as with_token:
        two = await pushed(with_token, number=2)
        await api(with_token, "POST", f"{TAG}/rollback", json={"reason": "2 does not start"})
        await api(with_token, "DELETE", TAG, status=204, params={"reason": "no more"})
        told = await moves(with_token)
    full = await moves(client)
    assert [(each["action"], each["old_digest"], each["new_digest"], each["reason"]) for each in full] == [
        ("delete", one, None, "no more"),
        ("rollback", two, one, "2 does not start"),
        ("push", one, two, None),
        ("push", None, one, None),
    ]
    assert {each["actor"] for each in full} == {"admin"}
    assert {each["address"] for each in full} == {"127.0.0.1"}
    assert [each["token_name"] for each in full[:3]] == ["of ci"] * 3
    assert {each["token_id"] for each in full[:3]} == {made["id"]}
    assert full[3]["token_name"] != "of ci"
    # Who may pull is told who, when and why; not from where and with which token.
    for mine, theirs in ((full, await moves(nobody)), (full, told)):
        hidden = {"address": None, "token_id": None, "token_name": None}
        assert theirs == [each | hidden for each in mine]


async def test_a_tag_is_rolled_back_from_where_it_was_seen(client: aiohttp.ClientSession) -> None:
    one = await pushed(client)
    two = await pushed(client, number=2)
    refused = await ask(client, "POST", f"/api/v1{TAG}/rollback", json={"stands_at": one})
    assert (refused.status, f"stands at {two}, and not at {one}" in refused.json["detail"]) == (409, True)
    # Of two at once one is the first.
    answers = await asyncio.gather(
        *(ask(client, "POST", f"/api/v1{TAG}/rollback", json={"to": one, "stands_at": two}) for _ in range(2))
    )
    assert sorted(answer.status for answer in answers) == [200, 409]
    await api(client, "DELETE", TAG, status=204)
    await api(client, "POST", f"{TAG}/rollback", status=409, json={"to": two, "stands_at": one})
    await api(client, "POST", f"{TAG}/rollback", json={"to": two, "stands_at": "nowhere"})


async def test_a_tag_is_moved_from_where_it_was_seen(client: aiohttp.ClientSession) -> None:
    one, two, three = [await pushed(client, tag, number) for number, tag in enumerate(("1", "2", "3"), 1)]
    for stands_at, said in ((two, f"stands at {one}, and not at {two}"), ("nowhere", "and not nowhere")):
        refused = await ask(
            client, "POST", f"/api/v1{TAG}/move", json={"to": "3", "stands_at": stands_at, "dry_run": True}
        )
        assert (refused.status, said in refused.json["detail"]) == (409, True)
    await api(client, "POST", f"{TAG}/move", status=409, json={"to": "3", "stands_at": two})
    assert (await api(client, "GET", TAG))["digest"] == one
    # Of two at once one is the first.
    answers = await asyncio.gather(
        *(ask(client, "POST", f"/api/v1{TAG}/move", json={"to": to, "stands_at": one}) for to in (two, three))
    )
    assert sorted(answer.status for answer in answers) == [200, 409]
    (done,) = (answer.json["digest"] for answer in answers if answer.status == 200)
    assert (await api(client, "GET", TAG))["digest"] == done
    await api(client, "DELETE", TAG, status=204)
    await api(client, "POST", f"{TAG}/move", status=404, json={"to": "3", "stands_at": done})


async def test_who_reads_where_moves_came_from(client: aiohttp.ClientSession, registry: Registry) -> None:
    await pushed(client)
    reader, keeper = await make_user(client, "reader"), await make_user(client, "keeper")
    auditor = await make_user(client, "auditor", auditor=True)
    await give_role(client, NAME, "user:reader", "writer")
    await give_role(client, NAME, "user:keeper", "maintainer")
    for name, password, told in (
        ("reader", reader, None),
        ("keeper", keeper, "127.0.0.1"),
        ("auditor", auditor, "127.0.0.1"),
    ):
        async with registry.client(password, user=name) as session:
            assert [each["address"] for each in await moves(session)] == [told], name
            history = await ask(session, "GET", f"/v2/{NAME}/_seatrial/tags/history?tag=1")
            assert history.json["history"][0].get("address") == told


async def test_where_a_tag_stood_at_a_time(client: aiohttp.ClientSession, registry: Registry) -> None:
    digests = [await pushed(client, number=number) for number in (1, 2)]
    await api(client, "DELETE", TAG, status=204)
    third = await pushed(client, number=3)
    assert (await ask(client, "DELETE", f"/v2/{NAME}/manifests/{digests[0]}")).status == 202
    async with database_of(registry).write() as connection:
        # SQLite's clock has milliseconds, in which two of them may fall.
        numbers = (await connection.execute(select(tag_history.c.id).order_by(tag_history.c.id))).scalars()
        for day, number in enumerate(numbers.all(), start=1):
            at = datetime(2026, 1, day, tzinfo=UTC)
            this = update(tag_history).where(tag_history.c.id == number)
            await connection.execute(this.values(at=at))
    lines = (await moves(client))[::-1]
    times = [each["at"] for each in lines]
    assert times == [f"2026-01-0{day}T00:00:00Z" for day in (1, 2, 3, 4)]

    async def at(time: str, status: int = 200) -> Any:
        return await api(client, "GET", TAG, status=status, params={"at": time})

    first = await at(times[0])
    assert (first["digest"], first["updated_at"], first["updated_by"]) == (digests[0], times[0], "admin")
    assert (first["media_type"], first["size"]) == (None, None), "it was deleted since"
    second = await at(times[1])
    assert second["digest"] == digests[1]
    assert second["size"] > 0
    assert "was deleted" in (await at(times[2], 404))["detail"]
    assert (await at("2100-01-01T00:00:00Z"))["digest"] == third
    assert "begins on" in (await at("2020-01-01T00:00:00Z", 404))["detail"]
    await api(client, "GET", f"{PATH}/tags/none", status=404, params={"at": times[0]})
    await api(client, "GET", TAG, status=400, params={"at": "yesterday"})


async def test_histories_are_kept_as_long_as_a_repository_says(
    client: aiohttp.ClientSession, registry: Registry
) -> None:
    database = database_of(registry)
    await make_repository(client, NAME, history_keep_lines=3)
    digests = [await pushed(client, number=number) for number in range(5)]
    assert [each["new_digest"] for each in await moves(client)] == digests[:1:-1]
    await api(client, "PATCH", PATH, json={"history_keep_lines": None})
    await pushed(client, number=5)
    assert len(await moves(client)) == 4
    await pushed(client, tag="gone")
    await api(client, "DELETE", f"{PATH}/tags/gone", status=204)
    assert await taghistory.sweep(database) == 0, "for ever, if nothing is said"
    shown = await api(client, "PATCH", PATH, json={"history_keep_days": 7})
    assert (shown["history_keep_days"], shown["history_keep_lines"]) == (7, None)
    assert await taghistory.sweep(database) == 0, "nothing is over for so long"
    async with database.write() as connection:
        aged = db_time(-timedelta(days=8))
        over = tag_history.c.over_at.is_not(None)
        await connection.execute(update(tag_history).where(over).values(over_at=aged))
        await connection.execute(update(tag_history).values(at=aged))
    # Where the gate holds, readers get what the history says.
    await api(client, "PATCH", PATH, json={"gate": "hold"})
    assert await taghistory.sweep(database) == 2
    assert await moves(client, "gone") == []
    assert len(await moves(client)) == 4
    await api(client, "PATCH", PATH, json={"gate": "off"})
    assert await taghistory.sweep(database) == 3
    # Where it stands, it has stood for longer, and is not over.
    (last,) = await moves(client)
    assert last["new_digest"] == (await api(client, "GET", TAG))["digest"]
    before = {"at": "2020-01-01T00:00:00Z"}
    assert "begins on" in (await api(client, "GET", TAG, status=404, params=before))["detail"]
    for body in ({"history_keep_lines": 0}, {"history_keep_lines": 1001}, {"history_keep_days": 0}):
        await api(client, "PATCH", PATH, status=400, json=body)


async def test_a_held_repository_keeps_the_lines_that_its_readers_need(client: aiohttp.ClientSession) -> None:
    await make_repository(client, NAME, gate="hold", history_keep_lines=1)
    for number in range(3):
        await pushed(client, number=number)
    assert len(await moves(client)) == 3


async def test_a_deleted_image_comes_back_with_its_tag_until_it_is_collected(
    client: aiohttp.ClientSession, registry: Registry
) -> None:
    services = registry.services
    assert services is not None
    content = b"a layer of its own"
    for one in (EMPTY_CONFIG, content):
        await push_blob(client, NAME, one)
    raw = small_manifest([content])
    digest = digest_of(raw)
    for tag in ("1", "also"):
        assert (await put_manifest(client, NAME, tag, raw)).status == 201
    await api(client, "POST", f"{TAG}/restore", status=409, json={})
    assert (await ask(client, "DELETE", f"/v2/{NAME}/manifests/{digest}")).status == 202
    # Nothing else names its bytes, or its layer: the grace keeps both.
    await collect(client)
    deleted = (await api(client, "GET", f"{PATH}/deleted-tags"))["items"]
    assert {each["name"]: (each["digest"], each["is_there"]) for each in deleted} == {
        "1": (digest, False),
        "also": (digest, False),
    }
    assert all(each["restorable_until"] for each in deleted)
    tried = await api(client, "POST", f"{TAG}/restore", json={"dry_run": True})
    assert tried["digest"] == digest
    assert (await ask(client, "GET", f"/v2/{NAME}/manifests/{digest}")).status == 404
    assert len(await moves(client)) == 2
    restored = await api(client, "POST", f"{TAG}/restore", json={"reason": "by mistake"})
    assert (restored["digest"], restored["size"]) == (digest, len(raw))
    assert (await ask(client, "GET", f"/v2/{NAME}/manifests/1")).body == raw
    assert (await ask(client, "GET", f"/v2/{NAME}/blobs/{digest_of(content)}")).body == content
    line = (await moves(client))[0]
    assert (line["action"], line["old_digest"], line["new_digest"]) == ("restore", None, digest)
    assert line["reason"] == "by mistake"
    kinds = [each["action"] for each in (await api(client, "GET", "/audit"))["items"]]
    assert "manifest.restored" in kinds
    (other,) = (await api(client, "GET", f"{PATH}/deleted-tags"))["items"]
    assert (other["name"], other["is_there"], other["restorable_until"]) == ("also", True, None)
    # A rollback brings back what was deleted too.
    await pushed(client, number=2)
    assert (await ask(client, "DELETE", f"/v2/{NAME}/manifests/{digest}")).status == 202
    assert (await api(client, "POST", f"{TAG}/rollback", json={}))["digest"] == digest
    assert (await ask(client, "GET", f"/v2/{NAME}/manifests/1")).body == raw


async def test_what_is_condemned_comes_back_and_stays(
    client: aiohttp.ClientSession, registry: Registry
) -> None:
    """In the second half of the grace a collection has condemned what only the deleted image named."""
    database = database_of(registry)
    digest = await pushed(client)
    assert (await ask(client, "DELETE", f"/v2/{NAME}/manifests/{digest}")).status == 202
    half = db_time(-timedelta(hours=13))
    condemned = select(func.count()).select_from(blob_links).where(blob_links.c.condemned)

    async def pass_time() -> None:
        async with database.write() as connection:
            await connection.execute(update(blob_links).values(created_at=half))
            due = blob_links.c.review_at.is_not(None)
            await connection.execute(update(blob_links).where(due).values(review_at=half))

    await pass_time()
    assert (await collect(client))["links_condemned"] == 1
    assert (await api(client, "POST", f"{TAG}/restore", json={}))["digest"] == digest
    await pass_time()
    assert (await collect(client))["links_removed"] == 0
    async with database.read() as connection:
        assert (await connection.execute(condemned)).scalar_one() == 0
    answer = await ask(client, "GET", f"/v2/{NAME}/blobs/{digest_of(EMPTY_CONFIG)}")
    assert (answer.status, answer.body) == (200, EMPTY_CONFIG)


async def test_after_the_grace_nothing_comes_back(client: aiohttp.ClientSession, registry: Registry) -> None:
    database = database_of(registry)
    digest = await pushed(client)
    other = await push_small(client, "team/other", "1", annotations={"n": "1"})
    assert other == digest, "the same bytes in two repositories"
    assert (await ask(client, "DELETE", f"/v2/{NAME}/manifests/{digest}")).status == 202
    grace = timedelta(days=1)
    assert await restoring.sweep_deleted(database, grace=grace) == 0
    async with database.write() as connection:
        await connection.execute(update(deleted_manifests).values(deleted_at=db_time(-grace)))
    (gone,) = (await api(client, "GET", f"{PATH}/deleted-tags"))["items"]
    assert (gone["is_there"], gone["restorable_until"]) == (False, None)
    refused = await api(client, "POST", f"{TAG}/restore", status=409, json={})
    assert "push it again" in refused["detail"]
    assert await restoring.sweep_deleted(database, grace=grace) == 1
    assert (await ask(client, "DELETE", f"/v2/team/other/manifests/{digest}")).status == 202
    async with database.write() as connection:
        await connection.execute(update(deleted_manifests).values(deleted_at=db_time(-grace)))
    await collect(client)
    async with database.read() as connection:
        for table in (deleted_manifests, manifest_contents):
            assert (await connection.execute(select(func.count()).select_from(table))).scalar_one() == 0


async def test_a_deleted_image_is_brought_back_by_those_who_may_delete(
    client: aiohttp.ClientSession, registry: Registry
) -> None:
    digest = await pushed(client)
    password = await make_user(client, "bob")
    await give_role(client, NAME, "user:bob", "writer")
    async with registry.client(password, user="bob") as bob:
        await api(client, "DELETE", TAG, status=204)
        assert (await api(bob, "POST", f"{TAG}/restore", json={}))["digest"] == digest
        assert (await ask(client, "DELETE", f"/v2/{NAME}/manifests/{digest}")).status == 202
        for word in ("restore", "rollback"):
            refused = await api(bob, "POST", f"{TAG}/{word}", status=403, json={})
            assert "may delete" in refused["detail"]
        await give_role(client, NAME, "user:bob", "maintainer")
        assert (await api(bob, "POST", f"{TAG}/restore", json={}))["digest"] == digest
        # What it is made of was taken away for good: then it stays away.
        assert (await ask(client, "DELETE", f"/v2/{NAME}/manifests/{digest}")).status == 202
        assert (await ask(client, "DELETE", f"/v2/{NAME}/blobs/{digest_of(EMPTY_CONFIG)}")).status == 202
        lacking = await api(bob, "POST", f"{TAG}/restore", status=400, json={})
        assert lacking["code"] == "MANIFEST_BLOB_UNKNOWN"


async def test_killed_while_an_image_comes_back(tmp_path: Path, sqlite_template: Path) -> None:
    """It has come whole, with its line, or not at all, and can be brought back then."""
    shutil.copyfile(sqlite_template, tmp_path / "seatrial.db")
    server = CrashingServer(tmp_path / "data", f"sqlite:///{tmp_path / 'seatrial.db'}")
    try:
        for number, point in enumerate(RESTORATION_POINTS):
            path = f"{PATH}/tags/{number}"
            async with server.start().client() as client:
                digest = await pushed(client, str(number), number)
                assert (await ask(client, "DELETE", f"/v2/{NAME}/manifests/{digest}")).status == 202
                server.arm(point)
                try:
                    with pytest.raises(aiohttp.ClientError):
                        await ask(client, "POST", f"/api/v1{path}/restore", json={})
                finally:
                    server.disarm()
                assert server.wait_until_killed()
            async with server.start().client() as client:
                there = await ask(client, "GET", f"/v2/{NAME}/manifests/{digest}")
                assert there.status == (200 if point.done else 404)
                actions = [each["action"] for each in await moves(client, str(number))]
                assert actions == ["restore", "delete", "push"][0 if point.done else 1 :]
                status = 409 if point.done else 200
                await api(client, "POST", f"{path}/restore", status=status, json={})
                assert (await api(client, "GET", path))["digest"] == digest
    finally:
        server.stop()


async def test_tags_are_moved_and_copied_within_a_repository(client: aiohttp.ClientSession) -> None:
    one, two = await pushed(client), await pushed(client, "2", 2)
    for body, answer in (({"to": "2", "dry_run": True}, two), ({"to": "2"}, two), ({"to": one}, one)):
        assert (await api(client, "POST", f"{TAG}/move", json=body))["digest"] == answer
    assert [each["action"] for each in await moves(client)] == ["move", "move", "push"]
    copied = await api(client, "POST", f"{TAG}/copy", json={"to": "stable", "reason": "it is"})
    assert (copied["name"], copied["digest"]) == ("stable", one)
    assert [(each["action"], each["reason"]) for each in await moves(client, "stable")] == [("copy", "it is")]
    assert (await api(client, "POST", f"{TAG}/copy", json={"to": "stable"}))["digest"] == one
    assert len(await moves(client, "stable")) == 1
    for path, body, status in (
        (f"{TAG}/copy", {"to": "2"}, 409),
        (f"{TAG}/copy", {"to": ".bad"}, 400),
        (f"{TAG}/copy", {"to": one}, 400),
        (f"{TAG}/move", {"to": "none"}, 404),
        (f"{TAG}/move", {"to": "sha256:" + "0" * 64}, 404),
        (f"{TAG}/move", {}, 400),
        (f"{TAG}/move", {"to": "2", "reason": "two\nlines"}, 400),
        (f"{PATH}/tags/none/move", {"to": "2"}, 404),
        (f"{PATH}/tags/none/copy", {"to": "new"}, 404),
        (f"{PATH}/tags/none/restore", {}, 404),
    ):
        await api(client, "POST", path, status=status, json=body)
    await api(client, "DELETE", TAG, status=204, params={"dry_run": "true"})
    assert (await api(client, "GET", TAG))["digest"] == one
    await api(client, "DELETE", f"{PATH}/tags/none", status=404, params={"dry_run": "true"})


async def test_tags_are_found(client: aiohttp.ClientSession, registry: Registry) -> None:
    for number, tag in enumerate(("1.10.0", "1.9.0", "2.0.0-rc.1", "latest", "V1")):
        await pushed(client, tag, number)
    image = tiny_image(Labels={"team": "sea", "long": "x" * 400})
    labelled = await push_image(client, NAME, "arm", image)
    await push_small(client, NAME, "V1", annotations={"big": "x" * 20_000})
    await push_image(client, NAME, "multi", tiny_index("linux/amd64", "linux/arm64/v8")[0])
    assert await names(client) == ["1.10.0", "1.9.0", "2.0.0-rc.1", "V1", "arm", "latest", "multi"]
    assert await names(client, order="version") == [
        *("2.0.0-rc.1", "1.10.0", "1.9.0"),
        *("multi", "latest", "arm", "V1"),
    ]
    assert await names(client, order="updated", limit="2") == ["multi", "V1"]
    for query, expected in (
        ({"glob": "1.*"}, ["1.10.0", "1.9.0"]),
        ({"glob": "*a*"}, ["arm", "latest"]),
        ({"glob": "v1"}, []),
        ({"regex": "[0-9.]+"}, ["1.10.0", "1.9.0"]),
        ({"semver": "*"}, ["1.10.0", "1.9.0", "2.0.0-rc.1"]),
        ({"semver": ">=1.10 stable"}, ["1.10.0"]),
        ({"digest": labelled}, ["arm"]),
        ({"digest": "sha256:" + "0" * 64}, []),
        ({"label": "team"}, ["arm"]),
        ({"label": "team=sea"}, ["arm"]),
        ({"label": "team=air"}, []),
        ({"label": "long"}, []),
        ({"label": "n=3"}, ["latest"]),
        ({"label": "big"}, []),
        ({"platform": "linux/arm64", "glob": "m*"}, ["multi"]),
        ({"platform": "linux/s390x"}, []),
        ({"platform": "linux/arm"}, []),
        ({"platform": "linux/arm64/v8"}, ["multi"]),
        ({"platform": "linux/arm64/v9"}, []),
        ({"state": "pass"}, []),
        ({"state": "untried", "glob": "arm"}, ["arm"]),
        ({"signed": "true"}, []),
        ({"signed": "false", "glob": "arm"}, ["arm"]),
        ({"updated_before": "2020-01-01T00:00:00Z"}, []),
        ({"updated_since": "2020-01-01T00:00:00Z", "glob": "arm", "order": "updated"}, ["arm"]),
    ):
        assert await names(client, **query) == expected, query
    for query in (
        {"regex": "("},
        {"glob": "a/b"},
        {"semver": "new"},
        {"label": "=x"},
        {"state": "fine"},
        {"order": "size"},
        {"signed": "yes"},
        {"order": "updated", "cursor": "x"},
        {"order": "version", "cursor": "x"},
        {"cursor": "a/b"},
        {"digest": "latest"},
        {"platform": "arm64"},
        {"platform": "linux arm"},
    ):
        await api(client, "GET", f"{PATH}/tags", status=400, params=query)
    database = database_of(registry)
    async with database.write() as connection:
        this = select(manifests.c.id, manifests.c.repository_id).where(manifests.c.digest == labelled)
        number, repository = (await connection.execute(this)).one()
        signature = {"manifest_id": number, "repository_id": repository, "subject_digest": labelled}
        await connection.execute(insert(signatures).values(payload=b"", signature=b"", **signature))
    assert await names(client, signed="true") == ["arm"]
    assert "arm" not in await names(client, signed="false")
    # Page by page it is the same, in each order.
    for order in ("name", "updated", "version"):
        found: list[str] = []
        query = {"order": order, "limit": "3"}
        for _ in range(4):
            page = await api(client, "GET", f"{PATH}/tags", params=query)
            found += [each["name"] for each in page["items"]]
            if page["next"] is None:
                break
            query["cursor"] = page["next"]
        assert found == await names(client, order=order)
    # As an older version leaves them, and as the sweep finds them.
    async with database.write() as connection:
        await connection.execute(update(tags).values(version_key=""))
    assert await learn_versions(database) == 7
    assert await learn_versions(database) == 0
    assert (await names(client, order="version"))[:3] == ["2.0.0-rc.1", "1.10.0", "1.9.0"]


async def test_the_extensions_say_what_there_is(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    one = await pushed(client)
    two = await pushed(client, number=2)
    for path in ("/v2/_oci/ext/discover", f"/v2/{NAME}/_oci/ext/discover"):
        found = await ask(client, "GET", path)
        assert (found.status, found.headers["Content-Type"]) == (200, "application/json")
        said = {each["name"]: each["endpoints"] for each in found.json["extensions"]}
        assert said == {"_oci": ["_oci/ext/discover"], "_seatrial": ["_seatrial/tags/history"]}
        assert (await ask(nobody, "GET", path)).status == 401
    path = f"/v2/{NAME}/_seatrial/tags/history?tag=1"
    page = await ask(client, "GET", f"{path}&n=1")
    assert page.json["name"] == NAME
    assert [(each["oldDigest"], each["newDigest"]) for each in page.json["history"]] == [(one, two)]
    following = page.headers["Link"].partition(">")[0].removeprefix("<")
    page = await ask(client, "GET", following)
    (line,) = page.json["history"]
    assert (line["action"], line["newDigest"], "oldDigest" in line) == ("push", one, False)
    assert "Link" not in page.headers
    assert (await ask(client, "GET", f"{path}&n=0")).json["history"] == []
    unmodified = await ask(client, "GET", path, headers={"If-None-Match": page.headers["ETag"]})
    assert unmodified.status == 200
    for wrong in ("", "?tag=.bad", "?tag=1&tag=2", "?tag=1&n=x", "?tag=1&last=x"):
        answer = await ask(client, "GET", f"/v2/{NAME}/_seatrial/tags/history{wrong}")
        assert answer.status == 400, wrong
    assert (await ask(client, "GET", "/v2/team/none/_oci/ext/discover")).status == 404
    assert (await ask(client, "POST", path)).status == 405
    assert (await ask(client, "GET", f"/v2/{NAME}/_seatrial/tags/other")).status == 404


async def test_a_page_of_deleted_tags_goes_on(client: aiohttp.ClientSession, registry: Registry) -> None:
    digest = await pushed(client)
    for tag in ("a", "b", "c"):
        await pushed(client, tag)
        await api(client, "DELETE", f"{PATH}/tags/{tag}", status=204)
    await pushed(client, "b")
    page = await api(client, "GET", f"{PATH}/deleted-tags", params={"limit": "1"})
    assert [each["name"] for each in page["items"]] == ["c"]
    page = await api(client, "GET", f"{PATH}/deleted-tags", params={"cursor": page["next"]})
    assert ([each["name"] for each in page["items"]], page["next"]) == (["a"], None)
    async with database_of(registry).write() as connection:
        line = {"repository_id": 1, "action": "delete", "old_digest": digest, "actor": "a", "at": db_time()}
        number = (await connection.execute(select(tags.c.repository_id).limit(1))).scalar_one()
        rows = [{**line, "repository_id": number, "name": f"old{n // 2}"} for n in range(3000)]
        for row in rows:
            row.pop("at")
        await connection.execute(insert(tag_history).values(at=db_time()), rows)
    # A page looks at so many deletions; where it finds few it still says how to go on.
    seen: list[str] = []
    query: dict[str, str] = {"limit": "1000"}
    for _ in range(10):
        page = await api(client, "GET", f"{PATH}/deleted-tags", params=query)
        seen += [each["name"] for each in page["items"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert sorted(seen) == sorted({*seen})
    assert {"a", "c", "old0", "old1499"} <= {*seen}
    assert len(seen) == 1502


async def test_what_is_hidden_is_hidden_here_too(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, registry: Registry
) -> None:
    await make_repository(client, NAME, visibility="private")
    await pushed(client)
    password = await make_user(client, "bob")
    async with registry.client(password, user="bob") as bob:
        for path in ("tags", "deleted-tags", "tags/1", "tags/1/history"):
            answers = [
                await ask(bob, "GET", f"/api/v1/repositories/{quote(name, '')}/{path}")
                for name in (NAME, "team/xyz")
            ]
            assert [answer.status for answer in answers] == [403, 403]
    with pytest.raises(AssertionError):
        await moves(nobody)
