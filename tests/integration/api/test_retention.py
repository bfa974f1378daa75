"""``/api/v1/retention``: what goes, what stays and why; and how a run ends, is broken off and is undone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import insert, select, update
from structlog.testing import capture_logs

from registry.db.content import manifests, repositories
from registry.db.dialect import insert_ignoring_conflict
from registry.db.engine import Database
from registry.db.events import audit_keeping, pull_days
from registry.db.promotions import promotions
from registry.db.retention import retention_policies, retention_runs
from registry.db.types import db_time
from registry.http.retaining import retain
from registry.http.services import Services
from tests.kit.access import api, ask, give_role, make_repository, make_token, make_user
from tests.kit.collecting import collect
from tests.kit.distribution import error_code, push_small, put_manifest, small_index, small_manifest
from tests.kit.images import OCI_INDEX, OCI_MANIFEST, descriptor, digest_of
from tests.kit.retention import NAME, age, carry_out, items_of, names, preview, pushed, set_policy
from tests.kit.server import Registry, running_registry

PATH = "/repositories/team%2Fapp"


def services_of(registry: Registry) -> Services:
    assert registry.services is not None
    return registry.services


def database_of(registry: Registry) -> Database:
    return services_of(registry).database


async def is_there(client: aiohttp.ClientSession, digest: str) -> bool:
    return (await ask(client, "HEAD", f"/v2/{NAME}/manifests/{digest}")).status == 200


def why(found: dict[str, Any]) -> dict[str, tuple[bool, str]]:
    return {one["tag"] or one["digest"]: (one["goes"], one["why"]) for one in found["items"]}


async def test_tags_that_no_rule_keeps_go_with_their_reason_and_come_back(
    client: aiohttp.ClientSession,
) -> None:
    digests = await pushed(client, "1.0.0", "1.10.0", "1.9.0", "2.0.0-rc1", "dev", "latest")
    keep = [
        {"tags": {"by": "semver", "pattern": "stable"}, "last": 2, "order": "version"},
        {"tags": {"by": "glob", "pattern": "latest"}},
    ]
    await set_policy(client, NAME, keep=keep)
    found = await preview(client, NAME, staying=10)
    assert why(found) == {
        "1.0.0": (True, "no rule keeps it (rule 1, semver stable: the last 2 by version)"),
        "2.0.0-rc1": (True, "no rule is about its name"),
        "dev": (True, "no rule is about its name"),
        "1.10.0": (False, "rule 1 keeps it (semver stable: the last 2 by version)"),
        "1.9.0": (False, "rule 1 keeps it (semver stable: the last 2 by version)"),
        "latest": (False, "rule 2 keeps it (glob latest)"),
    }
    counted = {name: found[name] for name in ("tags", "tags_going", "manifests", "manifests_going")}
    assert counted == {"tags": 6, "tags_going": 3, "manifests": 6, "manifests_going": 0}
    assert (found["refusal"], found["more"], found["next"]) == (None, False, None)
    assert await names(client) == {"1.0.0", "1.10.0", "1.9.0", "2.0.0-rc1", "dev", "latest"}
    run = await carry_out(client, NAME)
    assert (run["outcome"], run["tags_deleted"], run["manifests_deleted"]) == ("done", 3, 0)
    assert await names(client) == {"1.10.0", "1.9.0", "latest"}
    deleted = await items_of(client, run)
    assert {(one["tag"], one["why"]) for one in deleted} == {
        (tag, said) for tag, (goes, said) in why(found).items() if goes
    }
    (last, *_) = (await api(client, "GET", f"{PATH}/tags/dev/history"))["items"]
    assert (last["action"], last["actor"]) == ("retention", "registry")
    assert last["reason"] == f"retention run {run['id']}: no rule is about its name"
    assert await is_there(client, digests[4]), "the image stays"
    # Nothing is left to do.
    assert (await carry_out(client, NAME))["tags_deleted"] == 0
    await pushed(client, "dev")
    undone = await api(client, "POST", f"/retention/runs/{run['id']}/undo")
    assert (undone["restored"], undone["not_restored"], undone["left"]) == (3, [], 0)
    assert await names(client) == {"1.0.0", "1.10.0", "1.9.0", "2.0.0-rc1", "dev", "latest"}
    again = await api(client, "POST", f"/retention/runs/{run['id']}/undo")
    assert (again["restored"], again["left"]) == (0, 0)
    kinds = {each["action"] for each in (await api(client, "GET", "/audit"))["items"]}
    assert {"retention.set", "retention.asked", "retention.ended", "retention.undone"} <= kinds


async def test_a_tag_that_was_made_anew_is_not_taken_back(client: aiohttp.ClientSession) -> None:
    await pushed(client, "dev", "latest")
    await set_policy(client, NAME, keep=[{"tags": {"by": "glob", "pattern": "latest"}}])
    run = await carry_out(client, NAME)
    other = await push_small(client, NAME, "dev", annotations={"tag": "another"})
    undone = await api(client, "POST", f"/retention/runs/{run['id']}/undo")
    assert undone["restored"] == 0
    assert "it stands at" in undone["not_restored"][0]["why"]
    assert (await api(client, "GET", f"{PATH}/tags/dev"))["digest"] == other


async def test_pulls_moves_rules_and_requests_keep_tags(
    client: aiohttp.ClientSession, registry: Registry
) -> None:
    digests = dict(
        zip(names_of := ("pulled", "old-pull", "by-worker", "moved", "safe", "asked", "to", "gone"),
            await pushed(client, *names_of), strict=True)
    )  # fmt: skip
    database = database_of(registry)
    await age(database, 40)
    await push_small(client, NAME, "moved", annotations={"tag": "moved again"})
    await make_repository(client, "team/prod")
    async with database.write() as connection:
        for tag, actor, days in (
            ("pulled", "bob", 10),
            ("old-pull", "bob", 31),
            ("by-worker", "worker w1", 1),
        ):
            at = timedelta(days=days)
            now = (await connection.execute(db_time(-at).select())).scalar_one()
            row = {"digest": digests[tag], "repository": NAME, "actor": actor, "count": 1, "last_at": now}
            day = (now - type(now).fromtimestamp(0, now.tzinfo)).days
            await connection.execute(insert(pull_days).values(**row, day=day))
        source = (await connection.execute(manifests.select().limit(1))).one().repository_id
        asked = {"reason": "", "requested_by": "bob", "requested_at": db_time(), "source": NAME}
        asked |= {"expires_at": db_time(timedelta(days=1)), "source_id": source}
        for repository_id, tag, source_tag in ((source + 1, "new", "asked"), (source, "to", None)):
            row = {"repository_id": repository_id, "tag": tag, "source_tag": source_tag}
            await connection.execute(insert(promotions).values(**asked, **row, digest=digests["asked"]))
    await api(client, "POST", "/tag-rules", status=201, json={"on": NAME, "by": "glob", "pattern": "safe"})
    await set_policy(client, NAME, keep=[{"pulled_days": 30, "moved_days": 30}], cap_percent=60)
    found = why(await preview(client, NAME, staying=20))
    assert {tag for tag, (goes, _) in found.items() if goes} == {"old-pull", "by-worker", "gone"}
    assert found["asked"][1] == found["to"][1] == "somebody has asked for a promotion of it"
    assert found["safe"][1].startswith("it is immutable by rule")
    assert (await carry_out(client, NAME))["tags_deleted"] == 3
    assert await names(client) == {"pulled", "moved", "safe", "asked", "to"}


async def test_what_no_tag_reaches_goes_and_what_belongs_to_something_stays(
    client: aiohttp.ClientSession, registry: Registry
) -> None:
    """A child of an index that stays, and a referrer of what stays, stay; those of what goes go with it."""
    database = database_of(registry)

    async def put(raw: bytes, reference: str | None = None, media_type: str = OCI_MANIFEST) -> str:
        answer = await put_manifest(client, NAME, reference or digest_of(raw), raw, media_type)
        assert answer.status == 201, answer.body
        return digest_of(raw)

    def image(key: str, **members: Any) -> bytes:
        return small_manifest(annotations={"key": key}, **members)

    await push_small(client, NAME, "base")
    kept_child, gone_child, shared = image("kept child"), image("gone child"), image("shared")
    children = {raw: await put(raw) for raw in (kept_child, gone_child, shared)}
    kept = await put(small_index(kept_child, shared), "all", OCI_INDEX)
    gone = await put(raw_gone := small_index(gone_child, shared), None, OCI_INDEX)
    about_kept = await put(image("about", subject=descriptor(kept_child, OCI_MANIFEST), artifactType="a/b"))
    raw_about = image("about gone", subject=descriptor(raw_gone, OCI_INDEX), artifactType="a/b")
    about_gone = await put(raw_about)
    on_it = await put(image("on it", subject=descriptor(raw_about, OCI_MANIFEST), artifactType="c/d"))
    lost, once = await put(image("lost")), await put(image("once"), "moving")
    await age(database, 10)
    new = await put(image("new"))
    # Only now nothing names it any more.
    await put(image("now"), "moving")
    await set_policy(client, NAME, untagged_days=7)
    found = await preview(client, NAME)
    assert found["refusal"] is None
    going = why(found)
    assert set(going) == {gone, children[gone_child], about_gone, on_it, lost}
    assert going[lost][1] == "no tag has named it, and nobody pulled it, for 7 days"
    assert going[on_it][1].endswith("and what lists it, or what it refers to, goes")
    run = await carry_out(client, NAME)
    assert (run["outcome"], run["manifests_deleted"]) == ("done", 5)
    for digest in (kept, children[kept_child], children[shared], about_kept, once, new):
        assert await is_there(client, digest)
    assert not any([await is_there(client, digest) for digest in going])
    assert {one["digest"]: (True, one["why"]) for one in await items_of(client, run)} == going
    # All of it comes back, as it was.
    await collect(client)
    undone = await api(client, "POST", f"/retention/runs/{run['id']}/undo")
    assert (undone["restored"], undone["not_restored"]) == (5, [])
    assert all([await is_there(client, digest) for digest in going])
    assert (await preview(client, NAME))["manifests_going"] == 0, "it was just brought back"
    await age(database, 10)
    assert set(why(await preview(client, NAME))) == {*going, once, new}


async def test_an_index_is_refused_where_what_it_lists_was_just_deleted(
    client: aiohttp.ClientSession, registry: Registry
) -> None:
    """Its client saw it a moment ago, and did not send it again."""
    await push_small(client, NAME, "base")
    child, later = small_manifest(annotations={"key": "child"}), small_manifest(annotations={"key": "later"})
    assert (await put_manifest(client, NAME, digest_of(child), child)).status == 201
    await age(database_of(registry), 10)
    await set_policy(client, NAME, untagged_days=7)
    run = await carry_out(client, NAME)
    assert run["manifests_deleted"] == 1
    index = small_index(child, later)
    refused = await put_manifest(client, NAME, "all", index, OCI_INDEX)
    assert (refused.status, error_code(refused.body)) == (400, "MANIFEST_BLOB_UNKNOWN")
    said = refused.json["errors"][0]
    assert "was deleted by a retention policy lately; push it again first" in said["message"]
    assert said["detail"] == [{"digest": digest_of(child)}]
    assert (await put_manifest(client, NAME, digest_of(child), child)).status == 201
    assert (await put_manifest(client, NAME, "all", index, OCI_INDEX)).status == 201


async def test_what_was_pulled_is_blocked_or_held_for_readers_stays(
    client: aiohttp.ClientSession, registry: Registry
) -> None:
    database = database_of(registry)
    digests = await pushed(client, "a", "b", "c", "d")
    await pushed(client, "held")
    first = (await api(client, "GET", f"{PATH}/tags/held"))["digest"]
    await push_small(client, NAME, "held", annotations={"tag": "held anew"})
    for tag in ("a", "b", "c", "d"):
        await api(client, "DELETE", f"{PATH}/tags/{tag}", status=204)
    await age(database, 10)
    async with database.write() as connection:
        now = (await connection.execute(db_time().select())).scalar_one()
        day = (now - type(now).fromtimestamp(0, now.tzinfo)).days
        row = {"digest": digests[0], "repository": NAME, "actor": "bob", "count": 1}
        await connection.execute(insert(pull_days).values(**row, day=day, last_at=now))
        # The same of another repository tells nothing of this one.
        row |= {"digest": digests[1], "repository": "team/other"}
        await connection.execute(insert(pull_days).values(**row, day=day, last_at=now))
    image = f"{NAME}@{digests[2]}"
    await api(client, "POST", "/gate/block", status=204, json={"image": image, "reason": "bad"})
    await set_policy(client, NAME, untagged_days=7, cap_percent=90)
    assert set(why(await preview(client, NAME))) == {digests[1], digests[3], first}
    await api(client, "PATCH", PATH, json={"gate": "hold"})
    assert set(why(await preview(client, NAME))) == {digests[1], digests[3]}
    assert (await carry_out(client, NAME))["manifests_deleted"] == 2
    assert await is_there(client, first)


async def test_what_was_pushed_again_is_new(client: aiohttp.ClientSession, registry: Registry) -> None:
    await pushed(client, "base")
    raw = small_manifest(annotations={"n": "again"})
    other = small_manifest(annotations={"n": "once"})
    for each in (raw, other):
        assert (await put_manifest(client, NAME, digest_of(each), each)).status == 201
    await age(database_of(registry), 10)
    await set_policy(client, NAME, untagged_days=7, cap_percent=100)
    assert set(why(await preview(client, NAME))) == {digest_of(raw), digest_of(other)}
    assert (await put_manifest(client, NAME, digest_of(raw), raw)).status == 201
    assert set(why(await preview(client, NAME))) == {digest_of(other)}
    assert (await carry_out(client, NAME))["manifests_deleted"] == 1
    assert await is_there(client, digest_of(raw))
    await age(database_of(registry), 8)
    assert set(why(await preview(client, NAME))) == {digest_of(raw)}


async def test_old_referrers_go_but_for_the_last_of_their_type(
    client: aiohttp.ClientSession, registry: Registry
) -> None:
    (subject,) = await pushed(client, "1")
    about = descriptor(small_manifest(annotations={"tag": "1"}), OCI_MANIFEST)
    made: dict[str, list[str]] = {"sbom": [], "note": []}
    for number in range(3):
        for kind, digests in made.items():
            raw = small_manifest(
                annotations={"n": f"{kind} {number}"}, subject=about, artifactType=f"application/{kind}"
            )
            assert (await put_manifest(client, NAME, digest_of(raw), raw)).status == 201
            digests.append(digest_of(raw))
    tagged = small_manifest(annotations={"n": "tagged"}, subject=about, artifactType="application/sbom")
    await set_policy(client, NAME, referrers_days=30, referrers_last=2)
    assert (await preview(client, NAME))["items"] == []
    await age(database_of(registry), 40)
    assert (await put_manifest(client, NAME, "of-1", tagged)).status == 201
    going = why(await preview(client, NAME))
    assert set(going) == {*made["sbom"][:2], made["note"][0]}
    assert going[made["note"][0]][1] == (
        "it is older than 30 days, and what it refers to has 2 newer of its type"
    )
    assert (await carry_out(client, NAME))["manifests_deleted"] == 3
    assert await is_there(client, subject)
    left = await ask(client, "GET", f"/v2/{NAME}/referrers/{subject}")
    assert {one["digest"] for one in left.json["manifests"]} == {
        made["sbom"][2],
        *made["note"][1:],
        digest_of(tagged),
    }


async def test_images_that_failed_go_and_do_not_count(
    client: aiohttp.ClientSession, registry: Registry
) -> None:
    digests = await pushed(client, "1", "2", "3", "4", "release")
    database = database_of(registry)
    async with database.write() as connection:
        failed = manifests.c.digest.in_([digests[2], digests[3], digests[4]])
        await connection.execute(update(manifests).where(failed).values(state="fail"))
    await age(database, 5)
    async with database.write() as connection:
        lately = update(manifests).where(manifests.c.digest == digests[3])
        await connection.execute(lately.values(state_at=db_time()))
    keep = [
        {"tags": {"by": "semver", "pattern": "*"}, "last": 2, "order": "version"},
        {"tags": {"by": "glob", "pattern": "release"}},
    ]
    await set_policy(client, NAME, keep=keep, failed_days=3)
    found = why(await preview(client, NAME, staying=10))
    assert {tag for tag, (goes, _) in found.items() if goes} == {"1", "3"}
    assert found["3"][1] == "its image has been at fail for more than 3 days"
    # By itself it says nothing of other tags.
    await set_policy(client, NAME, failed_days=3)
    found = why(await preview(client, NAME, staying=10))
    assert {tag for tag, (goes, _) in found.items() if goes} == {"3", "release"}
    assert (await carry_out(client, NAME))["tags_deleted"] == 2


async def test_what_is_attached_by_its_name_goes_with_what_it_is_attached_to(
    client: aiohttp.ClientSession, registry: Registry
) -> None:
    (digest,) = await pushed(client, "1")
    there = f"{digest.replace(':', '-')}.sig"
    gone = f"sha256-{'0' * 64}.att"
    await pushed(client, there, gone)
    await set_policy(client, NAME, keep=[{"last": 1}], untagged_days=7)
    found = why(await preview(client, NAME, staying=10))
    assert {tag for tag, (goes, _) in found.items() if not goes} == {"1", there, gone}
    await age(database_of(registry), 10)
    found = why(await preview(client, NAME, staying=10))
    assert found[there] == (False, "it is attached to an image that is there")
    assert found[gone] == (True, "what it is attached to is gone, and it is older than 7 days")


async def test_a_rule_that_would_delete_everything_is_stopped_with_numbers(
    client: aiohttp.ClientSession,
) -> None:
    await pushed(client, "a", "b", "c", "d")
    await set_policy(client, NAME, keep=[{"tags": {"by": "glob", "pattern": "none"}}])
    said = "it would delete 4 of 4 tags; 50 % are the most"
    assert (await preview(client, NAME))["refusal"] == said
    run = await carry_out(client, NAME)
    assert (run["outcome"], run["detail"], run["tags_deleted"]) == ("stopped", said, 0)
    run = await carry_out(client, NAME, cap_percent=100, cap=3)
    assert run["detail"] == "it would delete 4 tags and 0 manifests; 3 together are the most"
    assert await names(client) == {"a", "b", "c", "d"}
    stopped = await api(client, "GET", "/audit", params={"action": "retention.stopped"})
    assert len(stopped["items"]) == 2
    run = await carry_out(client, NAME, cap_percent=100)
    assert (run["outcome"], run["tags_deleted"]) == ("done", 4)
    listed = await api(client, "GET", "/retention/runs", params={"on": "team/", "limit": "2"})
    assert [one["outcome"] for one in listed["items"]] == ["done", "stopped"]
    assert listed["next"] is not None


async def test_the_nearest_policy_counts_alone(client: aiohttp.ClientSession) -> None:
    for name in (NAME, "team/sub/deep", "other/app"):
        await pushed(client, "a", "b", name=name)
    above = await set_policy(client, "team/", keep=[{"last": 1}])
    assert await api(client, "GET", "/retention", params={"on": NAME}) == above
    own = await set_policy(client, NAME, untagged_days=30, at="02:30")
    assert own["next_at"]
    assert await api(client, "GET", "/retention", params={"on": NAME}) == own
    listed = await api(client, "GET", "/retention/policies", params={"on": NAME})
    assert listed == [own, above]
    await api(client, "GET", "/retention", status=404, params={"on": "other/app"})
    for path in ("preview", "runs"):
        await api(client, "POST", f"/retention/{path}", status=404, json={"on": "other/app"})
    # One repository after the other, each by what counts there.
    seen, cursor = {}, None
    while True:
        page = await preview(client, "team/", **({"cursor": cursor} if cursor else {}))
        seen[page["repository"]] = page["tags_going"]
        if (cursor := page["next"]) is None:
            break
    assert seen == {NAME: 0, "team/sub/deep": 1}
    # One that is not set would count where no nearer one is.
    page = await preview(client, "team/", policy={"keep": [{"tags": {"by": "glob", "pattern": "x"}}]})
    assert (page["repository"], page["tags_going"], page["next"]) == ("team/sub/deep", 2, None)
    page = await preview(client, NAME, policy={"keep": [{"last": 1}]})
    assert (page["repository"], page["tags_going"]) == (NAME, 1)
    asked = await api(client, "POST", "/retention/runs", status=202, json={"on": "team/"})
    assert (asked["runs"], {one["repository"] for one in asked["items"]} <= set(seen)) == (2, True)
    await api(client, "DELETE", "/retention", status=204, params={"on": NAME})
    assert await api(client, "GET", "/retention", params={"on": NAME}) == above
    await api(client, "DELETE", "/retention", status=404, params={"on": NAME})


async def test_what_is_no_policy(client: aiohttp.ClientSession, registry: Registry) -> None:
    await pushed(client, "a")
    for policy in (
        {},
        {"keep": [{"tags": {"by": "regex", "pattern": "("}}]},
        {"keep": [{"tags": {"by": "regex", "pattern": "(a|b)*" * 40}}]},
        {"keep": [{"tags": {"by": "semver", "pattern": "new"}}]},
        {"keep": [{"last": 0}]},
        {"keep": [{"last": 1}] * 21},
        {"keep": [{"pulled_days": 366}]},
        {"untagged_days": 366},
        {"referrers_days": 366},
        {"untagged_days": 0},
        {"untagged_days": 1, "at": "25:00"},
        {"untagged_days": 1, "at": "02:00", "every_hours": 1},
        {"untagged_days": 1, "cap": 0},
        {"untagged_days": 1, "cap_percent": 101},
    ):
        await set_policy(client, NAME, status=400, **policy)
    await set_policy(client, "none/", status=404, untagged_days=1)
    password = await make_user(client, "bob")
    await give_role(client, NAME, "user:bob", "writer")
    await set_policy(client, NAME, keep=[{"tags": {"by": "glob", "pattern": "x"}}], cap_percent=100)
    run = await carry_out(client, NAME)
    async with registry.client(password, user="bob") as bob:
        await set_policy(bob, NAME, status=403, untagged_days=1)
        for path in ("preview", "runs"):
            await api(bob, "POST", f"/retention/{path}", status=403, json={"on": NAME})
        await api(bob, "POST", f"/retention/runs/{run['id']}/undo", status=403)
        assert (await items_of(bob, run))[0]["tag"] == "a"
    stranger = await make_user(client, "eve")
    async with registry.client(stranger, user="eve") as eve:
        for where in ("", "/items"):
            await api(eve, "GET", f"/retention/runs/{run['id']}{where}", status=404)
        await api(eve, "POST", f"/retention/runs/{run['id']}/undo", status=404)
    await api(client, "GET", "/retention/runs/none", status=404)


@pytest.mark.parametrize(("on", "scope"), [(NAME, NAME), ("team/", "team/*")])
async def test_a_token_that_deletes_nothing_retains_nothing(
    client: aiohttp.ClientSession, registry: Registry, on: str, scope: str
) -> None:
    await pushed(client, "a", "b")
    keep = [{"tags": {"by": "glob", "pattern": "a"}}]
    only = (await make_token(client, f"repository:{scope}:pull,push,configure"))["token"]
    both = (await make_token(client, f"repository:{scope}:pull,delete,configure"))["token"]
    async with registry.client(only) as less:
        await set_policy(less, on, status=403, keep=keep, cap_percent=100)
        assert (await preview(less, on, policy={"keep": keep}))["tags_going"] == 1
        await set_policy(client, on, keep=keep, cap_percent=100)
        await api(less, "POST", "/retention/runs", status=403, json={"on": on})
        assert await names(client) == {"a", "b"}
    async with registry.client(both) as more:
        await set_policy(more, on, keep=keep, cap_percent=100)
        assert (await carry_out(more, on))["tags_deleted"] == 1


async def test_it_is_carried_out_when_it_is_time(client: aiohttp.ClientSession, registry: Registry) -> None:
    services = services_of(registry)
    await pushed(client, "a", "b")
    await pushed(client, "a", "b", name="team/own")
    await set_policy(client, "team/", keep=[{"last": 1}], every_hours=24)
    await set_policy(client, "team/own", untagged_days=1)
    assert await retain(services) == 0
    async with services.database.write() as connection:
        await connection.execute(update(retention_policies).values(next_at=db_time(-timedelta(hours=30))))
        own = update(retention_policies).where(retention_policies.c.repository_id.is_not(None))
        await connection.execute(own.values(next_at=None))
    assert await retain(services) == 1
    assert await retain(services) == 0, "what was missed is not made up for"
    (run,) = (await api(client, "GET", "/retention/runs", params={"on": "team/"}))["items"]
    assert (run["repository"], run["asked_by"], run["tags_deleted"]) == (NAME, "", 1)
    assert await names(client, "team/own") == {"a", "b"}


async def test_what_nobody_expected_ends_one_run_and_no_other(
    client: aiohttp.ClientSession, registry: Registry
) -> None:
    services = services_of(registry)
    for name in (NAME, "team/broken"):
        await pushed(client, "a", "b", name=name)
        await set_policy(client, name, keep=[{"last": 1}], every_hours=24)
    async with services.database.write() as connection:
        broken = select(repositories.c.id).where(repositories.c.name == "team/broken").scalar_subquery()
        ids = (await connection.execute(select(broken))).scalar_one()
        row = {"repository_id": ids, "document": "none", "cap": 5, "cap_percent": 50}
        asked = {"asked_by": "a", "asked_at": db_time(), "leased_until": db_time()}
        await connection.execute(insert(retention_runs).values(**row, **asked))
        await connection.execute(update(retention_policies).values(next_at=db_time()))
        wrong = update(retention_policies).where(retention_policies.c.repository_id == broken)
        await connection.execute(wrong.values(document="none"))
    with capture_logs() as logs:
        assert await retain(services) == 2
    assert {one["event"] for one in logs} == {
        "a retention policy could not be followed",
        "a retention run could not be carried out",
    }
    (run,) = (await api(client, "GET", "/retention/runs", params={"on": "team/broken"}))["items"]
    assert (run["outcome"], run["detail"]) == (
        "stopped",
        "the registry could not carry it out; its log says why",
    )
    assert (await names(client), await names(client, "team/broken")) == ({"b"}, {"a", "b"})


@pytest.mark.parametrize("policy", [{"keep": [{"pulled_days": 30}]}, {"untagged_days": 30}])
async def test_nothing_goes_by_pulls_that_are_not_known(
    tmp_path: Path, database_url: str, policy: dict[str, Any]
) -> None:
    async with running_registry(tmp_path / "data", database_url) as first, first.client() as client:
        await pushed(client, "a", "b")
        untagged = small_manifest(annotations={"n": "untagged"})
        assert (await put_manifest(client, NAME, digest_of(untagged), untagged)).status == 201
        await age(database_of(first), 60)
        await set_policy(client, NAME, **policy)
    shorter: dict[str, Any] = {"audit_keep_days": 7}
    async with (
        running_registry(tmp_path / "data", database_url, **shorter) as later,
        later.client() as client,
    ):
        run = await carry_out(client, NAME)
        assert run["outcome"] == "stopped"
        assert run["detail"] == (
            "the policy asks for pulls of 30 days, and they are kept for 7 (SEATRIAL_AUDIT_KEEP_DAYS)"
        )
        assert await names(client) == {"a", "b"}
        assert await is_there(client, digest_of(untagged))


async def test_nothing_without_a_tag_goes_where_the_trail_lost_pulls(
    client: aiohttp.ClientSession, registry: Registry
) -> None:
    await pushed(client, "a")
    await api(client, "DELETE", f"{PATH}/tags/a", status=204)
    await age(database_of(registry), 60)
    async with database_of(registry).write() as connection:
        # As the registry makes it when it first looks.
        await connection.execute(insert_ignoring_conflict(connection, audit_keeping, {"id": 1}))
        await connection.execute(update(audit_keeping).values(shortened_at=db_time(-timedelta(days=3))))
    await set_policy(client, NAME, untagged_days=30, cap_percent=100)
    assert "not known whole" in (await carry_out(client, NAME))["detail"]
    async with database_of(registry).write() as connection:
        await connection.execute(update(audit_keeping).values(shortened_at=db_time(-timedelta(days=31))))
    assert (await carry_out(client, NAME))["manifests_deleted"] == 1
