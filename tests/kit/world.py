"""A registry with one repository of each visibility, and everybody who may ask it for something."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import quote

import aiohttp
from sqlalchemy import update

from registry.db.accounts import tokens
from registry.db.engine import move_epoch
from registry.db.types import db_time
from tests.kit.access import api, basic, bearer, make_token, make_user, make_worker_token, registry_token
from tests.kit.distribution import push_image, push_small
from tests.kit.rights import PLACES
from tests.kit.server import Registry
from tests.kit.trials import tiny_image

ROLES = ("reader", "writer", "maintainer", "owner")
ALL = "pull,push,trial,delete,configure,administer"
ROBOT = "private+ci"


@dataclass(frozen=True, slots=True)
class World:
    """``headers`` are what each actor signs in with; ``trials`` the id of a trial in each repository."""

    headers: Mapping[str, Mapping[str, str]]
    trials: Mapping[str, str]


async def make_world(registry: Registry, admin: aiohttp.ClientSession) -> World:
    """In each namespace that is called as its place, a repository ``app``, a namespace ``sub`` with another
    repository and a robot ``ci``; in ``missing`` nothing. Everybody of the matrix, with his role in each."""
    trials = {}
    await api(admin, "POST", "/namespaces", status=201, json={"name": "missing"})
    for place in PLACES[:3]:
        await push_small(admin, f"{place}/app", "v1")
        await push_image(admin, f"{place}/app", "tried", tiny_image())
        asked = {"image": f"{place}/app:tried"}
        trial = await api(admin, "POST", "/trials", status=201, json=asked)
        trials[place] = trial["id"]
        await api(admin, "POST", "/repositories", status=201, json={"name": f"{place}/sub/app"})
        for name in (f"{place}/app", f"{place}/sub/app"):
            await api(admin, "PATCH", f"/repositories/{quote(name, '')}", json={"visibility": place})
        await api(admin, "PUT", f"/robots/{place}%2Fsub+ci", status=201, json={})
    people = {name: await make_user(admin, name, auditor=name == "auditor") for name in
              ("stranger", *ROLES, "auditor")}  # fmt: skip
    await api(admin, "PUT", f"/robots/{ROBOT}", status=201, json={})
    for place in PLACES:
        for name in ROLES:
            path = f"/namespaces/{place}/members/user:{name}"
            await api(admin, "PUT", path, status=201, json={"role": name})
    await api(admin, "PUT", f"/namespaces/private/members/robot:{ROBOT}", status=201, json={"role": "writer"})
    headers = {name: basic(name, password) for name, password in people.items()}
    headers |= {"anonymous": {}, "administrator": basic("admin", registry.token)}
    headers["worker"] = bearer(await make_worker_token(admin, "worker"))
    return World(headers | await _tokens(registry, admin, headers["owner"]), trials)


async def _tokens(
    registry: Registry, admin: aiohttp.ClientSession, owner: Mapping[str, str]
) -> dict[str, Mapping[str, str]]:
    async with registry.client(anonymous=True) as nobody:
        narrow = await registry_token(nobody, "repository:elsewhere/app:pull,push", headers=owner)
        empty = await registry_token(nobody, headers={})
    async with aiohttp.ClientSession(f"http://{registry.host}", headers=owner) as session:
        made = {
            "pull-token": await make_token(session, "repository:*:pull"),
            "elsewhere-token": await make_token(session, f"repository:elsewhere/*:{ALL}"),
            "expired-token": await make_token(session, f"repository:*:{ALL}"),
            "revoked-token": await make_token(session, f"repository:*:{ALL}"),
            "robot": await make_token(admin, f"repository:*:{ALL}", account=ROBOT),
        }
    await api(admin, "DELETE", f"/tokens/{made['revoked-token']['id']}", status=204)
    assert registry.services is not None
    async with registry.services.database.write() as connection:
        past, expired = db_time(-timedelta(minutes=5)), made["expired-token"]["id"]
        await connection.execute(update(tokens).where(tokens.c.id == expired).values(expires_at=past))
        await move_epoch(connection, "access")
    return {name: basic("x", token["token"]) for name, token in made.items()} | {
        "narrow-token": bearer(narrow),
        "empty-token": bearer(empty),
    }
