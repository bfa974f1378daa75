"""Promotions as tests ask for them, from one repository to another."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from sqlalchemy import func, select

from registry.db.content import attestations
from registry.db.schema import metadata
from tests.kit.access import api, ask
from tests.kit.trials import Port, ScriptedWorker

SOURCE, TO = "team/app", "prod/app"


async def judge(worker: ScriptedWorker, *, met: bool = True, **able: Any) -> None:
    """Let a worker take one job, and find it good or not."""
    job = await worker.claim(**able)
    assert (await worker.report(job, met=met, exit_code=0 if met else 3)).status == 204


async def promoted(port: Port, source: str = f"{SOURCE}:1", to: str = f"{TO}:1", **more: Any) -> Any:
    """Promote as the administrator."""
    body = {"source": source, "to": to, **more}
    return await api(port.admin, "POST", "/promotions", status=201, json=body)


async def previewed(port: Port, source: str = f"{SOURCE}:1", to: str = f"{TO}:1") -> Any:
    """What it would do."""
    return await api(port.admin, "POST", "/promotions/preview", json={"source": source, "to": to})


async def refused(port: Port, source: str = f"{SOURCE}:1", to: str = f"{TO}:1") -> list[str]:
    """Why a promotion is refused, which changes nothing; a preview says the same."""
    before = await contents(port)
    answer = await ask(port.admin, "POST", "/api/v1/promotions", json={"source": source, "to": to})
    assert answer.status == 403, answer.body
    said: list[str] = answer.json["data"]
    assert all(one in answer.json["detail"] for one in said)
    shown = await previewed(port, source, to)
    assert (shown["would"], shown["refusals"]) == ("refuse", said)
    assert await contents(port) == before
    return said


async def contents(port: Port) -> Mapping[str, int]:
    """How many rows there are, when all is signed that was to be. That somebody was refused is an event, and
    what the trail has is noted when the registry first looks."""
    apart = ("epochs", "events", "workers", "pull_days", "usage_changes", "audit_keeping")
    tables = [one for one in metadata.sorted_tables if one.name not in apart]
    unsigned = select(attestations.c.id).where(attestations.c.signed_at.is_(None))
    for _ in range(600):
        async with port.database.read() as connection:
            if (await connection.execute(unsigned)).first() is None:
                counts = [select(func.count()).select_from(one) for one in tables]
                counted = [(await connection.execute(one)).scalar_one() for one in counts]
                return dict(zip((one.name for one in tables), counted, strict=True))
        await asyncio.sleep(0.05)
    raise AssertionError("the registry signs nothing")


async def history(port: Port, tag: str = "1") -> list[tuple[str, str | None, str | None]]:
    """What was done to a tag of the destination, the newest first: action, digest, reason."""
    found = await api(port.admin, "GET", f"/repositories/{quote(TO, safe='')}/tags/{tag}/history")
    return [(one["action"], one["new_digest"], one["reason"]) for one in found["items"]]
