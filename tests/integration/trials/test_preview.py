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
from tests.kit.trials import Port, open_port, tiny_image

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
