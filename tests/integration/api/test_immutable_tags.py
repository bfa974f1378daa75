"""Tags that stand for good: held against everything by which a tag could move or go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from registry.content import immutability
from tests.kit.access import Answer, api, ask, basic, make_repository, make_token, make_user, registry_token
from tests.kit.distribution import (
    EMPTY_CONFIG,
    error_code,
    push_blob,
    push_small,
    put_manifest,
    small_index,
    small_manifest,
)
from tests.kit.images import OCI_INDEX, OCI_MANIFEST, descriptor, digest_of
from tests.kit.server import Registry, running_replicas
from tests.kit.trials import open_port

NAME, PATH = "team/app", "/repositories/team%2Fapp"


def manifest(number: int) -> bytes:
    return small_manifest(annotations={"n": str(number)})


async def push(client: aiohttp.ClientSession, tag: str, number: int = 1, **options: Any) -> Answer:
    headers = {"Content-Type": OCI_MANIFEST, **options.get("headers", {})}
    return await ask(client, "PUT", f"/v2/{NAME}/manifests/{tag}", data=manifest(number), headers=headers)


async def rule(client: aiohttp.ClientSession, status: int = 201, on: str = NAME, **given: Any) -> Any:
    body = {"on": on, "by": "semver", "pattern": ">=1", **given}
    return await api(client, "POST", "/tag-rules", status=status, json=body)


async def standing(client: aiohttp.ClientSession, tag: str) -> str:
    return str((await api(client, "GET", f"{PATH}/tags/{tag}"))["digest"])


async def test_nothing_moves_or_deletes_what_stands_for_good(client: aiohttp.ClientSession) -> None:
    await push_small(client, NAME, "1.0.0", annotations={"n": "1"})
    await push_small(client, NAME, "1.0.0", annotations={"n": "2"})
    one, two = digest_of(manifest(1)), digest_of(manifest(2))
    assert (await push(client, "dev", 1)).status == 201
    made = await rule(client, exceptions=[{"by": "glob", "pattern": "1.9*"}], reason="releases stay")
    assert (await push(client, "1.0.0", 2)).status == 201, "where it stands already"
    refused = await push(client, "1.0.0", 1)
    assert (refused.status, error_code(refused.body)) == (403, "DENIED")
    message = refused.json["errors"][0]["message"]
    assert message == (
        f"team/app:1.0.0 is immutable by rule {made['id']} on team/app (semver >=1, releases stay), and "
        f"stands at {two}; push another tag"
    )
    # All or nothing: what else was to move stays.
    path = f"/v2/{NAME}/manifests/{digest_of(manifest(3))}"
    several = [("tag", tag) for tag in ("dev", "1.0.1", "1.0.0")]
    headers = {"Content-Type": OCI_MANIFEST}
    many = await ask(client, "PUT", path, data=manifest(3), params=several, headers=headers)
    assert many.status == 403
    assert (await ask(client, "GET", path)).status == 404
    assert await standing(client, "dev") == one
    await api(client, "GET", f"{PATH}/tags/1.0.1", status=404)
    tag = f"{PATH}/tags/1.0.0"
    for method, where, options in (
        ("POST", f"{tag}/rollback", {"json": {}}),
        ("POST", f"{tag}/rollback", {"json": {"to": one}}),
        ("POST", f"{tag}/rollback", {"json": {"dry_run": True}}),
        ("POST", f"{tag}/move", {"json": {"to": "dev"}}),
        ("DELETE", tag, {}),
        ("DELETE", tag, {"params": {"dry_run": "true"}}),
    ):
        assert "is immutable by" in (await api(client, method, where, status=403, **options))["detail"]
    index = small_index(manifest(2))
    assert (await put_manifest(client, NAME, "2.0.0", index, OCI_INDEX)).status == 201
    for where in (
        "manifests/1.0.0",
        f"manifests/{two}",
        f"manifests/{digest_of(index)}",
        f"blobs/{digest_of(EMPTY_CONFIG)}",
    ):
        answer = await ask(client, "DELETE", f"/v2/{NAME}/{where}")
        assert (answer.status, error_code(answer.body)) == (403, "DENIED"), where
    assert await standing(client, "1.0.0") == two
    assert len((await api(client, "GET", f"{tag}/history"))["items"]) == 2
    # Where no rule holds: by its exception, and by its range.
    for other in ("1.9.1", "0.9.0", "latest"):
        for number in (1, 2):
            assert (await push(client, other, number)).status == 201
        assert (await ask(client, "DELETE", f"/v2/{NAME}/manifests/{other}")).status == 202
    # An image that only such tags name can go.
    assert (await push(client, "nightly", 4)).status == 201
    assert (await ask(client, "DELETE", f"/v2/{NAME}/manifests/{digest_of(manifest(4))}")).status == 202
    await api(client, "DELETE", f"/tag-rules/{made['id']}", status=204)
    assert (await push(client, "1.0.0", 1)).status == 201
    kinds = [each["action"] for each in (await api(client, "GET", "/audit"))["items"]]
    assert {"tag_rule.created", "tag_rule.deleted"} <= set(kinds)


async def test_where_nobody_can_tell_nothing_is_deleted(
    client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below more indexes than are looked at, or more tags than are held against rules."""
    digest = await push_small(client, NAME, "dev", annotations={"n": "1"})
    below, media_type = manifest(1), OCI_MANIFEST
    indexes = []
    for number in range(immutability.DEPTH_MAX + 2):
        children = [descriptor(below, media_type)]
        below, media_type = small_index(annotations={"n": str(number)}, manifests=children), OCI_INDEX
        indexes.append(below)
    # From the top, each of them lists what is not there yet: nobody sees how deep it gets.
    for raw in reversed(indexes):
        reference = "1.0" if raw is indexes[-1] else digest_of(raw)
        assert (await put_manifest(client, NAME, reference, raw, OCI_INDEX)).status == 201
    made = await rule(client)
    image = f"/v2/{NAME}/manifests/{digest}"
    refused = await ask(client, "DELETE", image)
    assert (refused.status, error_code(refused.body)) == (403, "DENIED")
    assert "nobody knows" in refused.json["errors"][0]["message"]
    other = await push_small(client, NAME, "next", annotations={"n": "2"})
    monkeypatch.setattr(immutability, "ASKED_MAX", 0)
    refused = await ask(client, "DELETE", f"/v2/{NAME}/manifests/{other}")
    assert "delete tags first" in refused.json["errors"][0]["message"]
    await api(client, "DELETE", f"/tag-rules/{made['id']}", status=204)
    for each in (digest, other):
        assert (await ask(client, "DELETE", f"/v2/{NAME}/manifests/{each}")).status == 202


async def test_what_was_deleted_comes_back_under_a_rule_and_stays(client: aiohttp.ClientSession) -> None:
    digest = await push_small(client, NAME, "1")
    await api(client, "DELETE", f"{PATH}/tags/1", status=204)
    await rule(client)
    assert (await api(client, "POST", f"{PATH}/tags/1/restore", json={}))["digest"] == digest
    assert (await push(client, "1", 7)).status == 403
    copied = await api(client, "POST", f"{PATH}/tags/1/copy", json={"to": "1.1"})
    assert copied["digest"] == digest
    assert (await push(client, "1.1", 7)).status == 403


async def test_rules_of_namespaces_count_below_them(client: aiohttp.ClientSession) -> None:
    await push_small(client, NAME, "v1")
    made = await rule(client, on="team/", by="regex", pattern="v[0-9]+")
    assert (await push(client, "v1", 2)).status == 403
    await push_small(client, "other/app", "v1")
    assert (await put_manifest(client, "other/app", "v1", manifest(2))).status == 201
    assert await api(client, "GET", "/tag-rules", params={"on": "team/"}) == [made]
    assert await api(client, "GET", "/tag-rules", params={"on": NAME}) == []
    # What lies elsewhere now is held by the rules there.
    await api(client, "POST", f"{PATH}/transfer", json={"namespace": "other"}, status=409)
    await api(client, "POST", f"{PATH}/rename", json={"name": "other/moved"})
    assert (await put_manifest(client, "other/moved", "v1", manifest(2))).status == 201


async def test_what_is_no_rule(client: aiohttp.ClientSession, registry: Registry) -> None:
    await make_repository(client, NAME)
    for given in (
        {"by": "semver", "pattern": "new"},
        {"by": "regex", "pattern": "("},
        {"by": "regex", "pattern": "(a|b)*" * 40},
        {"by": "glob", "pattern": ""},
        {"by": "name", "pattern": "a"},
        {"exceptions": [{"by": "glob", "pattern": "a/b"}]},
        {"exceptions": [{"by": "glob", "pattern": "a"}] * 21},
        {"reason": "two\nlines"},
    ):
        await rule(client, status=400, **given)
    await rule(client, status=404, on="none/")
    for number in range(50):
        await rule(client, by="glob", pattern=f"v{number}")
    assert "50 are the limit" in (await rule(client, status=409))["detail"]
    await make_repository(client, "team/other")
    many = [{"by": "glob", "pattern": f"v{number}"} for number in range(20)]
    for number in range(4):
        made = await rule(client, on="team/other", pattern=f">={number}", exceptions=many)
    twice = await rule(client, status=409, on="team/other", pattern=">=3", exceptions=many[::-1], reason="x")
    assert twice["detail"] == f"team/other has this rule already; it is rule {made['id']}"
    refused = await rule(client, status=409, on="team/other", pattern=">=9", exceptions=many)
    assert "more than 100 patterns" in refused["detail"]
    await api(client, "DELETE", "/tag-rules/none", status=404)
    await api(client, "DELETE", "/tag-rules/999999", status=404)
    password = await make_user(client, "bob")
    (first, *_) = await api(client, "GET", "/tag-rules", params={"on": NAME})
    async with registry.client(password, user="bob") as bob:
        await rule(bob, status=403)
        await api(bob, "DELETE", f"/tag-rules/{first['id']}", status=404)


async def test_a_promotion_is_refused_before_it_is_tried(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url, gate="off", trial_on_push=False) as port:
        client = port.admin
        for name in (NAME, "team/to"):
            await push_small(client, name, "1.0", annotations={"of": name})
        await rule(client, on="team/to")
        body = {"source": f"{NAME}:1.0", "to": "team/to:1.0"}
        preview = await api(client, "POST", "/promotions/preview", json=body)
        assert preview["would"] == "refuse"
        assert any("is immutable by" in said for said in preview["refusals"])
        refused = await api(client, "POST", "/promotions", status=403, json=body)
        assert "is immutable by" in refused["detail"]


@pytest.fixture
async def replicas(tmp_path: Path, database_url: str) -> AsyncIterator[list[Registry]]:
    async with running_replicas(tmp_path, database_url, 2) as running:
        yield running


async def first_pushes(clients: list[aiohttp.ClientSession], headers: dict[str, str]) -> None:
    answers = await asyncio.gather(
        *(push(clients[n % len(clients)], "1.0", n, headers=headers) for n in range(12))
    )
    assert {error_code(each.body) for each in answers if each.status != 201} == {"DENIED"}
    (winner,) = [n for n, each in enumerate(answers) if each.status == 201]
    assert await standing(clients[0], "1.0") == digest_of(manifest(winner))
    assert len((await api(clients[0], "GET", f"{PATH}/tags/1.0/history"))["items"]) == 1


async def test_of_first_pushes_at_once_exactly_one_wins(replicas: list[Registry]) -> None:
    """On two replicas: by a rule, and by a token that only makes what is new."""
    async with replicas[0].client() as one, replicas[1].client() as other:
        await make_repository(one, NAME)
        await push_blob(one, NAME, EMPTY_CONFIG)
        token = str((await make_token(one, f"repository:{NAME}:pull,create"))["token"])
        await first_pushes([one, other], basic("x", token))
        await api(one, "DELETE", f"{PATH}/tags/1.0", status=204)
        await api(one, "DELETE", PATH, status=204)
        await make_repository(one, NAME)
        await push_blob(one, NAME, EMPTY_CONFIG)
        await rule(one)
        await first_pushes([one, other], {})


async def test_a_token_that_only_makes_what_is_new(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, registry: Registry
) -> None:
    """By itself, and as the registry token that a client makes of it."""
    await push_small(client, NAME, "latest", annotations={"n": "1"})
    made = await make_token(client, f"repository:{NAME}:pull,create")
    assert made["scopes"] == [f"repository:{NAME}:create,pull"]
    secret = str(made["token"])
    bearer = await registry_token(nobody, f"repository:{NAME}:pull,push,delete", headers=basic("x", secret))
    for number, headers in enumerate((basic("x", secret), {"Authorization": f"Bearer {bearer}"})):
        async with aiohttp.ClientSession(registry.url, headers=headers) as limited:
            await push_blob(limited, NAME, f"a layer {number}".encode())
            new = f"new{number}"
            for _ in range(2):
                assert (await push(limited, new, 1)).status == 201
            for tag in ("latest", new):
                refused = await push(limited, tag, 2)
                assert (refused.status, error_code(refused.body)) == (403, "DENIED")
                assert "makes new tags and moves none" in refused.json["errors"][0]["message"]
            digest = digest_of(manifest(2))
            by_digest = await ask(
                limited,
                "PUT",
                f"/v2/{NAME}/manifests/{digest}?tag=latest&tag=newer",
                data=manifest(2),
                headers={"Content-Type": OCI_MANIFEST},
            )
            assert by_digest.status == 403
            assert (await push(limited, digest, 2)).status == 201
            assert (await ask(limited, "DELETE", f"/v2/{NAME}/manifests/{new}")).status in (401, 403)
    async with aiohttp.ClientSession(registry.url, headers=basic("x", secret)) as limited:
        await api(client, "POST", f"{PATH}/tags/latest/move", json={"to": digest_of(manifest(2))})
        for word, body in (("move", {"to": "new0"}), ("rollback", {})):
            await api(limited, "POST", f"{PATH}/tags/latest/{word}", status=403, json=body)
        copied = await api(limited, "POST", f"{PATH}/tags/latest/copy", json={"to": "copied"})
        assert copied["digest"] == digest_of(manifest(2))
        # It makes no token that may more than it.
        for scope, status in (("create", 201), ("pull,create", 201), ("push", 403), ("delete", 403)):
            body = {"name": "made", "scopes": [f"repository:{NAME}:{scope}"]}
            await api(limited, "POST", "/tokens", status=status, json=body)
    pushing = str((await make_token(client, f"repository:{NAME}:pull,push"))["token"])
    async with aiohttp.ClientSession(registry.url, headers=basic("x", pushing)) as wider:
        body = {"name": "made", "scopes": [f"repository:{NAME}:create"]}
        await api(wider, "POST", "/tokens", status=201, json=body)
        assert (await push(wider, "latest", 1)).status == 201
