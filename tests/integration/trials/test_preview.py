"""What another gate would have refused, and to whom."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, update

from registry.db.content import manifests
from registry.db.events import pull_days
from registry.db.types import db_time
from registry.events.keeping import day_of
from tests.kit.access import api, make_token, make_user
from tests.kit.images import make_index
from tests.kit.signing import attach, new_key, public_pem, signature_of
from tests.kit.trials import REPOSITORY, Port, open_port, tiny_image

TODAY = day_of(datetime.now(UTC))


async def pulled(
    port: Port, digest: str, actor: str, *, days_ago: int = 1, repository: str = "team/app"
) -> None:
    async with port.database.write() as connection:
        await connection.execute(
            insert(pull_days).values(
                digest=digest,
                day=TODAY - days_ago,
                repository=repository,
                actor=actor,
                count=2,
                last_at=db_time(timedelta(days=-days_ago)),
            )
        )


async def previewed(port: Port, name: str, **query: Any) -> list[Any]:
    found: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = await api(
            port.admin, "GET", "/gate/preview", params={"name": name, "limit": 2, **query, **cursor}
        )
        found += page["items"]
        if page["next"] is None:
            return found
        cursor = {"cursor": page["next"]}


async def test_a_preview(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url, gate="off", trial_on_push=False) as port:
        await make_user(port.admin, "rita")
        images = {}
        states = ("pass", "fail", "error", "untried", "pending", "not-applicable", "blocked")
        for state in states:
            image = tiny_image()
            images[state] = await port.push(image, tag=state)
            values = {"state": state} if state != "blocked" else {"state": "pass", "blocked_reason": "r"}
            async with port.database.write() as connection:
                this = update(manifests).where(manifests.c.digest == image.digest)
                await connection.execute(this.values(values))
            for actor in ("rita", "admin", "gone", "worker one"):
                await pulled(port, image.digest, actor)
            await pulled(port, image.digest, "rita", days_ago=2)
        unpulled = await port.push(tiny_image(), tag="unpulled")
        old = await port.push(tiny_image(), tag="old")
        await pulled(port, old, "rita", days_ago=40)
        elsewhere = await port.push(tiny_image(), repository="team/sub/app")
        await pulled(port, elsewhere, "rita", repository="team/sub/app")

        found = {one["digest"]: one for one in await previewed(port, "team/app", gate="enforce")}
        expected = {
            "fail": "refuse",
            "error": "refuse",
            "untried": "admit",
            "pending": "admit",
            "blocked": "refuse",
        }
        assert {digest: one["decision"] for digest, one in found.items()} == {
            images[state]: decision for state, decision in expected.items()
        }
        # What has no verdict would stay for a while, and says until when.
        assert [found[images[state]]["admitted_until"] is not None for state in expected] == [
            False, False, True, True, False,
        ]  # fmt: skip
        bad = found[images["fail"]]
        assert (bad["repository"], bad["state"], bad["pulls"]) == ("team/app", "fail", 8)
        assert bad["explain"] == "the gate enforces and the state is fail"
        assert bad["tags"] == ["fail"]
        assert found[images["untried"]]["reason"] == "the repository does not try what is pushed"
        assert [(one["actor"], one["count"], one["may_push"]) for one in bad["pullers"]] == [
            ("rita", 4, False),
            ("admin", 2, True),
            ("gone", 2, None),
        ]
        assert unpulled not in found
        older = await previewed(port, "team/app", since="2020-01-01T00:00:00Z")
        assert old in {one["digest"] for one in older}
        assert {one["repository"] for one in await previewed(port, "team/")} == {"team/app", "team/sub/app"}
        await api(port.admin, "GET", "/gate/preview", status=404, params={"name": "team"})
        warned = {one["digest"]: one["decision"] for one in await previewed(port, "team/app", gate="warn")}
        assert (warned[images["fail"]], warned[images["blocked"]]) == ("admit-with-warning", "refuse")

        await api(port.admin, "GET", "/gate/preview", status=404, params={"name": "none/app"})
        for wrong in ({"gate": "halt"}, {"since": "5"}, {"cursor": "x"}, {"limit": 0}):
            await api(port.admin, "GET", "/gate/preview", status=400, params={"name": "team/app", **wrong})
        reader = (await make_token(port.admin, "repository:*:pull"))["token"]
        async with port.registry.client(reader) as client:
            await api(client, "GET", "/gate/preview", status=403, params={"name": "team/app"})


async def test_a_preview_knows_what_people_told_the_gate(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url, gate="off", trial_on_push=False) as port:
        images = {}
        for name in ("signed", "listed", "unsigned", "waived", "failed"):
            image = tiny_image()
            images[name] = await port.push(image, tag=name)
            if name == "listed":
                index = await port.push(make_index(image), tag="index")
            state = "fail" if name in ("waived", "failed") else "pass"
            async with port.database.write() as connection:
                this = update(manifests).where(manifests.c.digest == image.digest)
                await connection.execute(this.values(state=state))
            await pulled(port, image.digest, "rita")
        key, again = new_key(), new_key()
        for digest in (images["signed"], index, images["waived"], images["failed"]):
            for one in (key, again):
                await attach(port.admin, REPOSITORY, digest, signature_of(digest, one))
        named = {digest: name for name, digest in images.items()}

        async def decided() -> dict[str, str]:
            """What the preview says of each, which is what a reader meets when the gate is turned on."""
            shown = await previewed(port, REPOSITORY)
            found = {named[one["digest"]]: one["decision"] for one in shown if one["digest"] in named}
            path = f"/repositories/{REPOSITORY.replace('/', '%2F')}"
            await api(port.admin, "PATCH", path, json={"gate": "enforce"})
            for name, digest in images.items():
                status = 403 if found.get(name) == "refuse" else 200
                answer = await port.pull(digest)
                assert (answer.status, "Warning" in answer.headers) == (
                    status,
                    found.get(name) == "admit-with-warning",
                ), name
            await api(port.admin, "PATCH", path, json={"gate": "off"})
            return found

        assert await decided() == {"waived": "refuse", "failed": "refuse"}
        for on, one in (("team/", key), (REPOSITORY, again), (REPOSITORY, new_key())):
            rule = {"on": on, "name": "release", "public_pem": public_pem(one)}
            await api(port.admin, "POST", "/signature-rules", status=201, json=rule)
        until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        waiver = {"states": ["fail"], "reason": "a hotfix", "expires_at": until}
        body = {**waiver, "image": f"{REPOSITORY}@{images['waived']}"}
        made = await api(port.admin, "POST", "/waivers", status=201, json=body)
        await api(port.admin, "POST", f"/waivers/{made['id']}/grant")
        expected = {"unsigned": "refuse", "waived": "admit", "failed": "refuse"}
        assert await decided() == expected
        shown = {one["digest"]: one for one in await previewed(port, REPOSITORY)}
        assert shown[images["unsigned"]]["state"] == "unsigned"
        assert shown[images["waived"]]["admitted_until"] == made["expires_at"]
        assert shown[images["failed"]]["admitted_until"] is None
        pause = {"namespace": "team", "until": until, "reason": "r"}
        await api(port.admin, "POST", "/gate/pauses", status=201, json=pause)
        assert await decided() == {
            "unsigned": "admit-with-warning",
            "waived": "admit",
            "failed": "admit-with-warning",
        }
