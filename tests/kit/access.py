"""Words for tests about who may do what: answers that have been read, accounts, tokens, registry tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp

from registry.db.access import namespaces
from registry.db.dialect import insert_ignoring_conflict
from registry.db.engine import Database
from registry.db.types import db_time


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that has been read."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def look(self) -> tuple[object, ...]:
        """What a caller can tell two answers apart by: all but the time and the request's id."""
        varying = ("date", "x-request-id")
        kept = {name: value for name, value in self.headers.items() if name.lower() not in varying}
        body = self.json if self.body else {}
        if isinstance(body, dict):
            body.pop("request_id", None)
        return self.status, kept, body


async def ask(client: aiohttp.ClientSession, method: str, path: str, **options: Any) -> Answer:
    """Send a request and read the whole answer."""
    async with client.request(method, path, **options) as response:
        return Answer(response.status, response.headers, await response.read())


async def api(
    client: aiohttp.ClientSession, method: str, path: str, *, status: int = 200, **options: Any
) -> Any:
    """Call the admin API and expect a status; its JSON, or ``None``."""
    answer = await ask(client, method, f"/api/v1{path}", **options)
    assert answer.status == status, (answer.status, answer.body)
    return answer.json if answer.body else None


async def make_repository(client: aiohttp.ClientSession, name: str, **settings: Any) -> Any:
    """Make a repository."""
    return await api(client, "POST", "/repositories", status=201, json={"name": name, **settings})


async def make_user(client: aiohttp.ClientSession, name: str, **settings: Any) -> str:
    """Make a user; the password."""
    made = await api(client, "POST", "/users", status=201, json={"name": name, **settings})
    return str(made.get("password") or settings["password"])


async def make_token(client: aiohttp.ClientSession, *scopes: str, **settings: Any) -> Any:
    """Make an API token; the whole answer."""
    body = {"name": "test", "scopes": list(scopes), **settings}
    return await api(client, "POST", "/tokens", status=201, json=body)


async def make_worker_token(client: aiohttp.ClientSession, worker: str) -> str:
    """Make a worker; its token."""
    made = await api(client, "POST", "/tokens", status=201, json={"worker": worker})
    return str(made["token"])


def basic(username: str, password: str) -> dict[str, str]:
    """The header of a user name and password."""
    return {"Authorization": aiohttp.encode_basic_auth(username, password)}


def bearer(token: str) -> dict[str, str]:
    """The header of a token."""
    return {"Authorization": f"Bearer {token}"}


async def registry_token(nobody: aiohttp.ClientSession, *scopes: str, headers: Mapping[str, str]) -> str:
    """Ask ``/token`` for these scopes."""
    parameters = [("service", "seatrial"), *(("scope", scope) for scope in scopes)]
    answer = await ask(nobody, "GET", "/token", params=parameters, headers=headers)
    assert answer.status == 200, answer.body
    return str(answer.json["token"])


async def give_role(client: aiohttp.ClientSession, on: str, member: str, role: str) -> None:
    """Let a member (``user:bob``) hold a role on a repository, or on a namespace with a slash at its end."""
    kind = "namespaces" if on.endswith("/") else "repositories"
    place = quote(on.rstrip("/"), safe="")
    answer = await ask(
        client, "PUT", f"/api/v1/{kind}/{place}/members/{quote(member, safe='')}", json={"role": role}
    )
    assert answer.status in (200, 201), (answer.status, answer.body)


async def have_namespaces(database: Database, *names: str) -> None:
    """Have namespaces without any repository in them."""
    async with database.write() as connection:
        for name in names:
            values = {"name": name, "created_at": db_time()}
            await connection.execute(insert_ignoring_conflict(connection, namespaces, values))
