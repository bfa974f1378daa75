"""``kill -9`` around the commit of each change of who may do what: it has happened whole, with its line in
the trail, or not at all; and whoever asks again is answered as after any other request."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.kit.access import api, ask, make_repository, make_token, make_user
from tests.kit.crashing import ACCESS_USE_CASES, CrashingServer, Point, points_of

NUMBERS = itertools.count(1)
POINTS = [point for target in ACCESS_USE_CASES for point in points_of(target.replace(":", "."))]


@dataclass(frozen=True, slots=True)
class Case:
    """A request, what is looked at before and after it, its line in the trail, and the statuses of the
    client's next try: where nothing has happened, and where all has."""

    method: str
    path: str
    body: dict[str, Any] | None
    look: str
    kind: str
    again: tuple[int, int]


CASES = {
    "tokens.create_token": Case(
        "POST",
        "/tokens",
        {"name": "new", "scopes": ["repository:*:pull"], "account": "{user}"},
        "/tokens?account={user}",
        "token.created",
        (201, 201),
    ),
    "tokenchanges.rotate_token": Case(
        "POST", "/tokens/{token}/rotate", {}, "/tokens?account={user}", "token.rotated", (201, 409)
    ),
    "tokenchanges.revoke_token": Case(
        "DELETE", "/tokens/{token}", None, "/tokens?account={user}", "token.revoked", (204, 204)
    ),
    "tokenchanges.revoke_issued_before": Case(
        "POST",
        "/tokens/revoke",
        {"account": "{user}"},
        "/tokens?account={user}",
        "credentials.revoked",
        (200, 200),
    ),
    "grants.give": Case(
        "PUT",
        "/repositories/{space}%2Fapp/members/user:{user}",
        {"role": "writer"},
        "/users/{user}/grants",
        "grant.given",
        (201, 200),
    ),
    "grants.take": Case(
        "DELETE",
        "/namespaces/{space}/members/user:{user}",
        None,
        "/users/{user}/grants",
        "grant.taken",
        (204, 404),
    ),
    "robots.put_robot": Case(
        "PUT", "/robots/{space}+new", {}, "/robots?namespace={space}", "robot.created", (201, 200)
    ),
    "robots.delete_robot": Case(
        "DELETE", "/robots/{space}+ci", None, "/robots?namespace={space}", "robot.deleted", (204, 404)
    ),
    "accounts.change_user": Case(
        "PATCH", "/users/{user}", {"disabled": True}, "/users?prefix={user}", "user.disabled", (200, 200)
    ),
    "accounts.delete_user": Case(
        "DELETE", "/users/{user}", None, "/users?prefix={user}", "user.deleted", (204, 404)
    ),
    "administration.move": Case(
        "POST",
        "/repositories/{space}%2Fapp/rename",
        {"name": "{space}/other"},
        "/namespaces/{space}",
        "repository.renamed",
        (200, 404),
    ),
    "namespaces.rename": Case(
        "POST",
        "/namespaces/{space}/rename",
        {"name": "{space}-other"},
        "/namespaces",
        "namespace.renamed",
        (200, 404),
    ),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[CrashingServer]:
    folder = tmp_path_factory.mktemp("crash")
    shutil.copyfile(sqlite_template, folder / "seatrial.db")
    made = CrashingServer(folder / "data", f"sqlite:///{folder / 'seatrial.db'}")
    yield made
    made.stop()


@pytest.mark.parametrize("point", POINTS, ids=attrgetter("name"))
async def test_killed_around_a_commit(server: CrashingServer, point: Point) -> None:
    case = CASES[".".join(point.use_case.split(".")[2:])]
    number = next(NUMBERS)
    names = {"user": f"user{number:02}", "space": f"space{number:02}"}
    async with server.start().client() as client:
        await make_user(client, names["user"])
        await make_repository(client, f"{names['space']}/app")
        path = f"/namespaces/{names['space']}/members/user:{names['user']}"
        await api(client, "PUT", path, status=201, json={"role": "owner"})
        await api(client, "PUT", f"/robots/{names['space']}+ci", status=201, json={})
        names["token"] = (await make_token(client, "repository:*:pull", account=names["user"]))["id"]
        before = await seen(client, case, names)
        server.arm(point)
        try:
            with pytest.raises(aiohttp.ClientError):
                await send(client, case, names)
        finally:
            server.disarm()
        assert server.wait_until_killed()
    async with server.start().client() as client:
        after = await seen(client, case, names)
        assert (after != before) is point.done
        assert after[1] - before[1] == point.done, "a line for what has happened, and for nothing else"
        assert (await send(client, case, names)).status == case.again[point.done]


async def send(client: aiohttp.ClientSession, case: Case, names: dict[str, str]) -> Any:
    body = {key: given(value, names) for key, value in (case.body or {}).items()}
    options = {} if case.body is None else {"json": body}
    return await ask(client, case.method, f"/api/v1{case.path.format_map(names)}", **options)


def given(value: Any, names: dict[str, str]) -> Any:
    return value.format_map(names) if isinstance(value, str) else value


async def seen(client: aiohttp.ClientSession, case: Case, names: dict[str, str]) -> tuple[Any, int]:
    """What the change is about, and how many lines of its kind the trail has."""
    about = await api(client, "GET", case.look.format_map(names))
    lines = await api(client, "GET", f"/audit?action={case.kind}&limit=1000")
    return about, len(lines["items"])
