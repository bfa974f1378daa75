"""``/api/v1``: repositories and tags."""

from __future__ import annotations

from datetime import timedelta

import aiohttp
from sqlalchemy import func, select

from registry.content.restoring import sweep_deleted
from registry.db.content import blob_links, blobs, manifests, tag_history, tags
from registry.db.events import events
from tests.kit.access import api, ask, basic, make_repository, make_token, make_user
from tests.kit.distribution import push_blob, push_image, push_small, start_upload
from tests.kit.server import Registry
from tests.kit.trials import tiny_image

NAME, PATH = "team/app", "/repositories/team%2Fapp"
SPEC = {"version": 1, "expect": {"exit": 0}}


async def test_a_repository_is_made_shown_changed_and_deleted(client: aiohttp.ClientSession) -> None:
    made = await make_repository(client, NAME, visibility="public", gate="enforce", run_spec=SPEC)
    assert made["name"] == NAME
    assert (made["visibility"], made["gate"], made["trial_on_push"]) == ("public", "enforce", False)
    assert made["run_spec"] == SPEC
    await api(client, "POST", "/repositories", status=409, json={"name": NAME})
    changed = await api(
        client, "PATCH", PATH, json={"visibility": "private", "trial_on_push": True, "gate": "off"}
    )
    assert (changed["visibility"], changed["gate"], changed["trial_on_push"]) == ("private", "off", True)
    assert changed["run_spec"] == SPEC
    assert (await api(client, "PATCH", PATH, json={"run_spec": None}))["run_spec"] is None
    yaml = "version: 1\ncommand: [/app, --check]\n"
    assert (await api(client, "PATCH", PATH, json={"run_spec": yaml}))["run_spec"]["command"] == [
        "/app",
        "--check",
    ]
    assert await api(client, "PATCH", PATH, json={}) == await api(client, "GET", PATH)
    await api(client, "DELETE", PATH, status=204)
    await api(client, "GET", PATH, status=404)
    await api(client, "DELETE", PATH, status=404)
    await api(client, "PATCH", PATH, status=404, json={"gate": "off"})


async def test_what_a_verdict_means_is_counted(client: aiohttp.ClientSession) -> None:
    await make_repository(client, NAME)
    for body, version in (
        ({"image_spec_allowed": True}, 2),
        ({"image_spec_allowed": True, "gate": "enforce"}, 2),
        ({"image_spec_allowed": False}, 3),
    ):
        assert (await api(client, "PATCH", PATH, json=body))["policy_version"] == version


async def test_a_stricter_gate_spares_what_was_there_before(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    """Untried images from before stay admitted for a time; those pushed later do not."""
    assert registry.services is not None
    await make_repository(client, NAME, visibility="public", gate="off")
    digest = await push_image(client, NAME, "old", tiny_image())
    await api(client, "PATCH", PATH, json={"gate": "enforce"})
    async with registry.services.database.read() as connection:
        row = (
            await connection.execute(
                select(manifests.c.state, manifests.c.grandfathered_until).where(manifests.c.digest == digest)
            )
        ).one()
    assert row.state == "grandfathered"
    assert row.grandfathered_until is not None
    assert (await ask(nobody, "GET", f"/v2/{NAME}/manifests/old")).status == 200
    await push_image(client, NAME, "new", tiny_image())
    assert (await ask(nobody, "GET", f"/v2/{NAME}/manifests/new")).status == 403


async def test_loosening_the_gate_spares_nothing(registry: Registry, client: aiohttp.ClientSession) -> None:
    assert registry.services is not None
    await make_repository(client, NAME, gate="enforce")
    await push_image(client, NAME, "1", tiny_image())
    await api(client, "PATCH", PATH, json={"gate": "warn"})
    async with registry.services.database.read() as connection:
        assert (await connection.execute(select(manifests.c.state))).scalars().all() == ["untried"]


async def test_deleting_takes_all_along_and_nothing_of_others(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    assert registry.services is not None
    shared = b"the same bytes in two repositories"
    for name in (NAME, "team/other"):
        await push_small(client, name, "1")
        digest = await push_blob(client, name, shared)
    location = await start_upload(client, NAME)
    await api(client, "DELETE", PATH, status=204)
    assert (await ask(client, "GET", f"/v2/team/other/blobs/{digest}")).body == shared
    assert (await ask(client, "GET", "/v2/team/other/manifests/1")).status == 200
    for path in (f"/v2/{NAME}/tags/list", f"/v2/{NAME}/manifests/1", f"/v2/{NAME}/blobs/{digest}", location):
        assert (await ask(client, "GET", path)).status == 404, path
    async with registry.services.database.read() as connection:
        counts = [
            (await connection.execute(select(func.count()).select_from(table))).scalar()
            for table in (manifests, tags, tag_history, blob_links, blobs)
        ]
        kinds = (
            (await connection.execute(select(events.c.kind).where(events.c.repository == NAME)))
            .scalars()
            .all()
        )
    assert counts == [1, 1, 1, 2, 2]
    assert kinds[0] == "repository.created"
    assert kinds[-1] == "repository.deleted"
    uploads = registry.services.settings.data / "blobs" / "uploads"
    assert list(uploads.iterdir()) == []


async def test_tags_move_and_go_back(client: aiohttp.ClientSession) -> None:
    one = await push_small(client, NAME, "1", annotations={"n": "1"})
    two = await push_small(client, NAME, "1", annotations={"n": "2"})
    three = await push_small(client, NAME, "1", annotations={"n": "3"})
    await push_small(client, NAME, "other", annotations={"n": "3"})
    tag = f"{PATH}/tags/1"
    listed = await api(client, "GET", f"{PATH}/tags")
    assert [(item["name"], item["digest"]) for item in listed["items"]] == [("1", three), ("other", three)]
    assert (await api(client, "GET", tag))["updated_by"] == "admin"
    assert (await api(client, "POST", f"{tag}/rollback", json={}))["digest"] == two
    assert (await api(client, "POST", f"{tag}/rollback", json={"to": one}))["digest"] == one
    assert (await ask(client, "GET", f"/v2/{NAME}/manifests/1")).headers["Docker-Content-Digest"] == one
    moves = (await api(client, "GET", f"{tag}/history"))["items"]
    assert [(move["action"], move["old_digest"], move["new_digest"]) for move in moves] == [
        ("rollback", two, one),
        ("rollback", three, two),
        ("push", two, three),
        ("push", one, two),
        ("push", None, one),
    ]
    assert len((await api(client, "GET", f"{tag}/history", params={"limit": "2"}))["items"]) == 2


async def test_a_deleted_tag_comes_back(client: aiohttp.ClientSession) -> None:
    one = await push_small(client, NAME, "1")
    await api(client, "DELETE", f"{PATH}/tags/1", status=204)
    await api(client, "DELETE", f"{PATH}/tags/1", status=404)
    await api(client, "GET", f"{PATH}/tags/1", status=404)
    assert (await ask(client, "GET", f"/v2/{NAME}/manifests/{one}")).status == 200
    assert (await api(client, "POST", f"{PATH}/tags/1/rollback", json={}))["digest"] == one


async def test_where_a_tag_cannot_go(registry: Registry, client: aiohttp.ClientSession) -> None:
    one = await push_small(client, NAME, "1", annotations={"n": "1"})
    other = await push_small(client, NAME, "2", annotations={"n": "2"})
    rollback = f"{PATH}/tags/1/rollback"
    for body, status in (
        ({}, 409),
        ({"to": other}, 409),
        ({"to": "sha256:" + "0" * 64}, 409),
        ({"to": "latest"}, 400),
        ({"to": 5}, 400),
        ({"digest": one}, 400),
    ):
        await api(client, "POST", rollback, status=status, json=body)
    await api(client, "POST", f"{PATH}/tags/none/rollback", status=404, json={})
    await api(client, "POST", f"{PATH}/tags/.bad/rollback", status=400, json={})
    await push_small(client, NAME, "1", annotations={"n": "3"})
    assert (await ask(client, "DELETE", f"/v2/{NAME}/manifests/{one}")).status == 202
    services = registry.services
    assert services is not None
    assert await sweep_deleted(services.database, grace=timedelta(0)) == 1
    answer = await ask(client, "POST", f"/api/v1{rollback}", json={})
    assert answer.status == 409
    assert "was deleted from team/app" in answer.json["detail"]


async def test_who_may_move_and_delete_tags(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await make_repository(client, NAME, visibility="public")
    await push_small(client, NAME, "1", annotations={"n": "1"})
    await push_small(client, NAME, "1", annotations={"n": "2"})
    password = await make_user(client, "bob")
    tokens = {
        actions: (await make_token(client, f"repository:{NAME}:{actions}"))["token"]
        for actions in ("pull", "pull,push", "pull,delete")
    }
    for headers, rollback, delete in (
        ({}, 401, 401),
        (basic("bob", password), 403, 403),
        (basic("x", tokens["pull"]), 403, 403),
        (basic("x", tokens["pull,push"]), 200, 403),
        (basic("x", tokens["pull,delete"]), 403, 204),
    ):
        assert (await ask(nobody, "GET", f"/api/v1{PATH}/tags/1/history", headers=headers)).status == 200
        answer = await ask(nobody, "POST", f"/api/v1{PATH}/tags/1/rollback", headers=headers, json={})
        assert answer.status == rollback
        assert (await ask(nobody, "DELETE", f"/api/v1{PATH}/tags/1", headers=headers)).status == delete
