"""A repository that tries what is pushed under some tags, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from registry.content.tagpatterns import PATTERNS_MAX
from registry.db.events import events
from tests.kit.access import api, ask, make_repository
from tests.kit.distribution import push_image, put_manifest
from tests.kit.images import OCI_INDEX
from tests.kit.trials import REPOSITORY, Port, ScriptedWorker, open_port, tiny_image, tiny_index

PATH = "/repositories/team%2Fapp"
NOT_MEANT = "it was pushed under no tag that is tried: v*, stable"


@pytest.fixture
async def filtered(port: Port) -> Port:
    """A registry with a repository that tries versions, and what is stable."""
    await make_repository(port.admin, REPOSITORY, trial_tags=["v*", "stable", "v*"])
    return port


async def test_what_is_pushed_under_no_such_tag_is_untried_until_one_names_it(filtered: Port) -> None:
    port, image = filtered, tiny_image()
    digest = await port.push(image, tag="dev")
    assert await port.trials(digest) == []
    said = await explained(port, digest)
    assert (said["state"], said["reason"]) == ("untried", NOT_MEANT)
    refused = await port.pull("dev")
    assert (refused.status, NOT_MEANT in refused.body.decode()) == (403, True)
    assert await port.push(image, tag="Stable") == digest
    assert await port.state(digest) == "untried"
    meant = await port.push(tiny_image(), tag="v1")
    by_digest = tiny_image()
    await push_image(port.admin, REPOSITORY, by_digest.digest, by_digest)
    assert [await port.state(one) for one in (meant, by_digest.digest)] == ["pending", "pending"]
    await push_image(port.admin, REPOSITORY, "v2", image)
    (trial,) = await port.trials(digest)
    assert (trial["cause"], await port.state("dev")) == ("push", "pending")
    assert await passed(await port.worker("one")) == {digest, meant, by_digest.digest}
    # A verdict stands whatever tag comes.
    await port.push(image, tag="dev2")
    assert (await port.state("dev2"), (await port.pull("dev")).status) == ("pass", 200)


async def test_indexes(filtered: Port) -> None:
    port = filtered
    index, (child,) = tiny_index("linux/amd64")
    digest = await port.push(index, tag="dev")
    assert (await explained(port, digest))["reason"] == NOT_MEANT
    # Its images are pushed by digest, and so stand for themselves.
    worker = await port.worker("one")
    assert await passed(worker) == {child.digest}
    assert await port.state(digest) == "untried"
    await port.push(index, tag="stable")
    assert await port.state(digest) == "pass"
    # Those that come before what they list: decided when it has come, by their own tags.
    for tag, state in (("dev", "untried"), ("v1", "pending")):
        late, (image,) = tiny_index("linux/amd64")
        assert (await put_manifest(port.admin, REPOSITORY, tag, late.manifest, OCI_INDEX)).status == 201
        await port.push(image, tag="child")
        assert [await port.state(one) for one in (image.digest, late.digest)] == [state, state]
        await push_image(port.admin, REPOSITORY, image.digest, image)
        assert [await port.state(one) for one in (image.digest, late.digest)] == ["pending", state]


async def test_a_tag_that_goes_back_to_what_was_not_tried(filtered: Port) -> None:
    port = filtered
    first = await port.push(tiny_image(), tag="dev")
    await port.push(tiny_image(), tag="dev")
    back = f"{PATH}/tags/dev/rollback"
    await api(port.admin, "POST", back, json={"to": first})
    assert await port.state(first) == "untried"
    await api(port.admin, "PATCH", PATH, json={"trial_tags": None})
    second = await port.push(tiny_image(), tag="dev")
    await api(port.admin, "POST", back, json={"to": first})
    assert (await port.state(first), await port.state(second)) == ("pending", "pending")


async def test_what_was_there_before_the_gate_is_tried_as_well(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url) as port:
        await make_repository(port.admin, REPOSITORY, gate="off", trial_tags=["v*"])
        image = tiny_image()
        digest = await port.push(image, tag="dev")
        await api(port.admin, "PATCH", PATH, json={"gate": "enforce"})
        assert await port.state(digest) == "grandfathered"
        for tag in ("v1", "v2"):
            await port.push(image, tag=tag)
            # It stays admitted until there is a verdict, and is asked for once.
            assert (await port.state(digest), len(await port.trials(digest))) == ("grandfathered", 1)
        worker = await port.worker("one")
        assert (await worker.report(await worker.claim(), met=False, exit_code=1)).status == 204
        assert await port.state(digest) == "fail"


async def test_the_patterns_are_a_setting_of_the_repository(filtered: Port) -> None:
    port = filtered
    shown = await ask(port.admin, "GET", f"/api/v1{PATH}")
    assert shown.json["trial_tags"] == ["v*", "stable"]
    seen = {"If-Match": shown.headers["ETag"]}
    for wrong in (
        [],
        [""],
        ["no/tag"],
        [".x"],
        ["v?"],
        ["[v]"],
        ["x" * 129],
        ["x"] * (PATTERNS_MAX + 1),
        "v*",
    ):
        await api(port.admin, "PATCH", PATH, status=400, json={"trial_tags": wrong})
    await api(port.admin, "PATCH", PATH, json={"trial_tags": ["*"]}, headers=seen)
    await api(port.admin, "PATCH", PATH, status=412, json={"trial_tags": ["v*"]}, headers=seen)
    assert await port.state(await port.push(tiny_image(), tag="any")) == "pending"
    # What a description leaves out is as for a new one.
    await api(port.admin, "PUT", PATH, json={"gate": "enforce"})
    assert (await api(port.admin, "GET", PATH))["trial_tags"] is None
    query = select(events.c.data).where(events.c.kind == "repository.changed").order_by(events.c.id)
    async with port.database.read() as connection:
        told = (await connection.execute(query)).scalars().all()
    changes = [json.loads(data)["trial_tags"] for data in told]
    assert changes == [[["v*", "stable"], ["*"]], [["*"], None]]


async def explained(port: Port, digest: str) -> Any:
    """What the gate says of an image."""
    return await api(port.admin, "GET", "/gate", params={"image": f"{REPOSITORY}@{digest}"})


async def passed(worker: ScriptedWorker) -> set[str]:
    """What a worker is given until there is no more, each of which passes."""
    found = set()
    while (job := await worker.claim()) is not None:
        assert (await worker.report(job)).status == 204
        found.add(job["digest"])
    return found
