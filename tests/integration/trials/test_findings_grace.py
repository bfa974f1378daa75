"""A vulnerability that has a grace: it is told of before, and counts when that is over, by time alone."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from registry.cli.trial import _print_trial
from registry.db.content import manifests, repositories
from registry.db.findings import image_findings
from registry.db.matchings import component_findings
from registry.db.types import db_time
from registry.trials.imagefindings import with_findings
from registry.trials.rejudging import ask_again
from tests.integration.trials.test_findings_policy import (
    CVE,
    HARMLESS,
    LODASH,
    OF_LODASH,
    put_policy,
    tried,
    until,
)
from tests.kit.access import api, make_repository
from tests.kit.matching import advise, told
from tests.kit.porting import command
from tests.kit.scans import scan_next
from tests.kit.trials import REPOSITORY, Port, tiny_image

DAYS = 14
GRACE = {"version": 1, "vulnerabilities": [{"severity": "high", "grace_days": DAYS}]}


async def known_since(port: Port, at: Any) -> None:
    """Let the registry have known of the vulnerability since then, and the image be judged again."""
    async with port.database.write() as connection:
        await connection.execute(update(component_findings).values(first_seen_at=at))
        await ask_again(connection, manifests.c.state != "")


async def findings(port: Port, digest: str) -> Any:
    (trial,) = await port.trials(digest)
    return trial["parts"][0]["findings"]


async def refused_from(port: Port, digest: str) -> datetime | None:
    at = (await findings(port, digest))["refuses_at"]
    return None if at is None else datetime.fromisoformat(at)


async def test_a_vulnerability_counts_when_its_grace_is_over_by_time_alone(
    port: Port, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    await make_repository(port.admin, REPOSITORY)
    await put_policy(port, GRACE)
    await advise(port, OF_LODASH, HARMLESS, day=1)
    worker = await port.worker("w")
    begun = datetime.now(UTC)
    digest = await tried(port, worker, LODASH)
    await until(port, digest, "pass")
    at = await refused_from(port, digest)
    assert at is not None
    assert begun - timedelta(minutes=1) < at - timedelta(days=DAYS) < datetime.now(UTC)
    (coming,) = (await findings(port, digest))["coming"]
    assert (coming["id"], coming["verdict"], datetime.fromisoformat(coming["at"])) == (CVE, "fail", at)
    capsys.readouterr()
    _print_trial((await port.trials(digest))[0])
    said = f"fail from {at:%Y-%m-%d %H:%M:%S} on: {CVE} lodash 4.17.15 critical, fixed in 4.17.19"
    assert said in capsys.readouterr().out
    # Whoever wants to know is told in time, and once.
    ((repository, notice),) = await told(port.database, "image.will_fail")
    assert (repository, notice["digest"], datetime.fromisoformat(notice["at"])) == (REPOSITORY, digest, at)
    assert f"{CVE} in lodash 4.17.15" in notice["reason"]
    policy = tmp_path / "policy.yaml"
    policy.write_text(json.dumps(GRACE))
    shown = await command(port, "policy", "preview", REPOSITORY, str(policy))
    assert f"{at:%Y-%m-%d %H:%M:%S}" in shown
    assert "0 of 1 images would be refused by what was found in them; 1 more when a grace is over" in shown

    # It is over in some seconds: nobody asks then, and nothing else happens.
    await known_since(port, db_time(timedelta(days=-DAYS, seconds=4)))
    async with asyncio.timeout(60):
        while (soon := await refused_from(port, digest)) == at:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert soon is not None
    assert await port.state(digest) == "pass"
    assert (await port.pull(digest)).status == 200
    await until(port, digest, "fail")
    assert datetime.now(UTC) >= soon - timedelta(seconds=0.5)
    assert (await port.pull(digest)).status == 403
    now = await findings(port, digest)
    assert (now["refuses_at"], now["coming"], now["reasons"][0]["id"]) == (None, [], CVE)
    assert f"known for {DAYS} days" in now["reason"]
    changes = [(data["from"], data["to"]) for _, data in await told(port.database, "verdict.changed")]
    assert changes == [("pending", "pass"), ("pass", "fail")]
    # Each time from which on it would be refused was told.
    assert [datetime.fromisoformat(one["at"]) for _, one in await told(port.database, "image.will_fail")] == [
        at, soon
    ]  # fmt: skip
    assert await worker.claim(mechanisms=["scan"]) is None


@pytest.mark.parametrize(
    ("turned_bad", "answer", "warned"),
    [
        ({"turned_bad": "keep"}, 200, False),
        ({"turned_bad": "warn"}, 200, True),
        ({"turned_bad": "block", "turned_bad_days": 7}, 200, True),
        ({"turned_bad": "block"}, 403, False),
    ],
    ids=["keep", "warn", "block after days", "block"],
)
async def test_what_is_newly_known_is_kept_warned_of_or_blocked_as_the_repository_says(
    port: Port, turned_bad: dict[str, Any], answer: int, warned: bool
) -> None:
    await make_repository(port.admin, REPOSITORY)
    await put_policy(port, GRACE)
    path = f"/repositories/{REPOSITORY.replace('/', '%2F')}"
    await advise(port, HARMLESS, day=1)
    worker = await port.worker("w")
    digest = await tried(port, worker, LODASH)
    await until(port, digest, "pass")
    await api(port.admin, "PATCH", path, json=turned_bad)
    # It becomes known: there is a grace, and nothing of it yet.
    await advise(port, OF_LODASH, HARMLESS, day=2)
    async with asyncio.timeout(60):
        while await refused_from(port, digest) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    pulled = await port.pull(digest)
    assert (pulled.status, "Warning" in pulled.headers) == (200, False)
    await known_since(port, db_time(timedelta(days=-DAYS, seconds=2)))
    await until(port, digest, "fail")
    pulled = await port.pull(digest)
    assert (pulled.status, "Warning" in pulled.headers) == (answer, warned)
    blocks = [datetime.fromisoformat(one["at"]) for _, one in await told(port.database, "image.will_block")]
    assert len(blocks) == ("turned_bad_days" in turned_bad)
    for at in blocks:
        assert timedelta(days=6.9) < at - datetime.now(UTC) < timedelta(days=7)


async def test_an_image_that_takes_over_what_was_made_of_it_elsewhere_is_told_of_too(port: Port) -> None:
    await make_repository(port.admin, REPOSITORY)
    await advise(port, OF_LODASH, HARMLESS, day=1)
    await put_policy(port, GRACE, on="team/")
    worker = await port.worker("w")
    image = tiny_image()
    digest = await port.push(image)
    await scan_next(worker, LODASH)
    await until(port, digest, "pass")
    other = "team/other"
    await port.push(image, repository=other)
    await api(port.admin, "POST", "/trials", json={"image": f"{other}:1"}, status=201)
    await scan_next(worker, LODASH)
    await until(port, digest, "pass", repository=other)
    before = [where for where, _ in await told(port.database, "image.will_fail")]
    assert sorted(before) == [REPOSITORY, other]
    async with port.database.write() as connection:
        query = select(manifests.c.id, manifests.c.repository_id).join(repositories)
        # What the registry signs of it may be there as well by now.
        this = (repositories.c.name == other, manifests.c.digest == digest)
        row = (await connection.execute(query.where(*this))).one()
        await connection.execute(delete(image_findings).where(image_findings.c.manifest_id == row.id))
        wanted = [(digest, "pass", "")]
        ((_, state, _),) = await with_findings(connection, row.repository_id, other, wanted)
        assert state == "pass"
        # A second look is none of another time.
        await with_findings(connection, row.repository_id, other, wanted)
    after = [where for where, _ in await told(port.database, "image.will_fail")]
    assert after == [*before, other]
