"""``user``, ``robot``, ``group`` and ``member`` against a running server, and ``user reset`` beside it."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.integration.cli.test_commands import seatrial, started
from tests.kit.access import (
    ask,
    basic,
    bearer,
    make_repository,
    make_token,
    make_user,
    registry_token,
)
from tests.kit.server import Registry, RegistryProcess
from tests.kit.sessions import signed_in

LIST = "/v2/team/app/tags/list"


@pytest.fixture
def server(tmp_path: Path, empty_database_url: str) -> Iterator[RegistryProcess]:
    """On SQLite in its data folder, and on PostgreSQL."""
    on_sqlite = empty_database_url.startswith("sqlite")
    process = RegistryProcess(tmp_path / "data", None if on_sqlite else empty_database_url)
    yield process
    process.stop()


@pytest.fixture
def environment(server: RegistryProcess, empty_database_url: str) -> dict[str, str]:
    """What a command needs to find the database of the server."""
    on_sqlite = empty_database_url.startswith("sqlite")
    return {} if on_sqlite else {"SEATRIAL_DATABASE_URL": empty_database_url}


def run(here: Path, *arguments: str, environment: dict[str, str], code: int = 0) -> str:
    done = seatrial(*arguments, cwd=here, env=environment)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout if code == 0 else done.stderr


def shown(here: Path, *arguments: str, environment: dict[str, str]) -> Any:
    return json.loads(run(here, *arguments, "--json", environment=environment))


async def test_the_commands(tmp_path: Path, server: RegistryProcess, environment: dict[str, str]) -> None:
    registry = server.start()
    where = {"SEATRIAL_SERVER": registry.url}
    async with registry.client() as client:
        await make_repository(client, "team/app")
    (tmp_path / "password").write_text("a password of hers\n")
    run(tmp_path, "user", "create", "ann", "--password-file", "password", environment=where)
    assert shown(tmp_path, "user", "set", "ann", "--auditor", environment=where)["auditor"] is True
    assert "give --admin" in run(tmp_path, "user", "set", "ann", environment=where, code=64)
    listed = shown(tmp_path, "user", "list", "--prefix", "an", environment=where)
    assert [user["name"] for user in listed] == ["ann"]
    assert "written team/" in run(
        tmp_path, "member", "set", "team", "ann", "reader", environment=where, code=2
    )
    run(tmp_path, "group", "create", "devs", environment=where)
    run(tmp_path, "group", "add", "devs", "ann", environment=where)
    run(tmp_path, "robot", "create", "team+ci", environment=where)
    run(tmp_path, "member", "set", "team/", "team+ci", "writer", environment=where)
    run(tmp_path, "member", "set", "team/app", "group:devs", "maintainer", environment=where)
    run(tmp_path, "member", "set", "team/app", "ann", "reader", environment=where)
    members = shown(tmp_path, "member", "list", "team/app", environment=where)
    assert [(each["member"], each["role"], each["inherited"]) for each in members] == [
        ("robot:team+ci", "writer", True),
        ("group:devs", "maintainer", False),
        ("user:ann", "reader", False),
    ]
    assert "inherited" in run(tmp_path, "member", "list", "team/app", environment=where).lower()
    assert len(shown(tmp_path, "user", "show", "ann", environment=where)["roles"]) == 2
    assert "maintainer" in run(tmp_path, "group", "show", "devs", environment=where)
    run(tmp_path, "member", "remove", "team/app", "ann", environment=where)
    said = run(tmp_path, "member", "remove", "team/app", "ann", environment=where, code=2)
    assert "was given no role on team/app itself" in said
    run(tmp_path, "group", "remove", "devs", "ann", environment=where)
    run(tmp_path, "group", "delete", "devs", "--yes", environment=where)
    assert shown(tmp_path, "group", "list", environment=where) == []
    assert shown(tmp_path, "robot", "disable", "team+ci", environment=where)["disabled_at"] is not None
    assert shown(tmp_path, "robot", "enable", "team+ci", environment=where)["disabled_at"] is None
    assert "there is no robot" in run(tmp_path, "robot", "disable", "team+no", environment=where, code=2)
    assert "team/" in run(tmp_path, "robot", "show", "team+ci", environment=where)
    assert "NAMESPACE+NAME" in run(tmp_path, "robot", "create", "ci", environment=where, code=64)
    assert shown(tmp_path, "namespace", "rename", "team", "crew", environment=where)["name"] == "crew"
    assert "crew/" in run(tmp_path, "robot", "show", "crew+ci", environment=where)
    said = run(tmp_path, "namespace", "rename", "team", "crew", environment=where, code=2)
    assert "there is no namespace team" in said
    shown(tmp_path, "namespace", "rename", "crew", "team", environment=where)
    run(tmp_path, "robot", "delete", "team+ci", "--yes", environment=where)
    either = run(tmp_path, "token", "revoke-all", "--yes", environment=where, code=64)
    assert "give --account NAME or --everybody" in either
    assert shown(tmp_path, "robot", "list", "--namespace", "team", environment=where) == []
    assert "last administrator" in run(tmp_path, "user", "disable", "admin", environment=where, code=2)
    assert shown(tmp_path, "user", "disable", "ann", environment=where)["disabled_at"] is not None
    assert shown(tmp_path, "user", "enable", "ann", environment=where)["disabled_at"] is None
    changed = run(tmp_path, "user", "password", "ann", environment=where).strip()
    async with registry.client(changed, user="ann") as ann:
        assert (await ask(ann, "GET", "/v2/")).status == 200
    run(tmp_path, "user", "delete", "ann", "--yes", environment=where)
    assert "there is no user" in run(tmp_path, "user", "show", "ann", environment=where, code=2)


async def ways_in(registry: Registry, client: aiohttp.ClientSession, name: str, password: str) -> list[Any]:
    """The headers of each credential of a user: password, API token, registry token, session."""
    token = (await make_token(client, "repository:team/app:pull", account=name))["token"]
    async with registry.client(anonymous=True) as nobody:
        scope = "repository:team/app:pull"
        by_password = await registry_token(nobody, scope, headers=basic(name, password))
        return [
            basic(name, password),
            bearer(by_password),
            await signed_in(nobody, name, password),
            bearer(token),
        ]


async def opened(registry: Registry, ways: list[Any]) -> list[bool]:
    async with registry.client(anonymous=True) as nobody:
        found = []
        for headers in ways:
            path = "/api/v1/tokens" if "Cookie" in headers else LIST
            found.append((await ask(nobody, "GET", path, headers=headers)).status == 200)
        return found


async def test_a_reset_beside_the_server(
    tmp_path: Path, server: RegistryProcess, environment: dict[str, str]
) -> None:
    registry = server.start()
    data = ("--data", str(server.data))
    async with registry.client() as client:
        await make_repository(client, "team/app", visibility="internal")
        password = await make_user(client, "eve", admin=True)
        ways = await ways_in(registry, client, "eve", password)
        assert await opened(registry, ways) == [True] * 4
        # Kept by who asks for it: then all but the API token.
        done = started(
            "user", "reset", "eve", *data, "--keep-tokens", "--json", cwd=tmp_path, env=environment
        )
        assert done.returncode == 0, done.stderr
        assert await opened(registry, ways) == [False, False, False, True]
        renewed = json.loads(done.stdout)["password"]
        ways = await ways_in(registry, client, "eve", renewed)
        assert (await ask(client, "PATCH", "/api/v1/users/eve", json={"disabled": True})).status == 200
        file = tmp_path / "secrets" / "eve"
        done = started("user", "reset", "eve", *data, "--file", str(file), cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        again = file.read_text().strip()
        assert again not in done.stdout
        assert await opened(registry, ways) == [False] * 4
        assert await opened(registry, [basic("eve", again)]) == [True]
        done = started(
            "user", "reset", "nobody", *data, "--file", str(tmp_path / "x"), cwd=tmp_path, env=environment
        )
        assert (done.returncode, "there is no user 'nobody'" in done.stderr) == (2, True)
        assert not (tmp_path / "x").exists()


async def test_a_lost_token_of_the_administrator(
    tmp_path: Path, server: RegistryProcess, environment: dict[str, str]
) -> None:
    """Also when it was made no administrator, and disabled."""
    registry = server.start()
    data = ("--data", str(server.data))
    async with registry.client() as client:
        await make_repository(client, "team/app", visibility="internal")
        own = (await make_token(client, "admin"))["token"]
        password = await make_user(client, "eve", admin=True)
    async with registry.client(password, user="eve") as eve:
        gone = {"admin": False, "disabled": True}
        assert (await ask(eve, "PATCH", "/api/v1/users/admin", json=gone)).status == 200
        ways = [bearer(registry.token), basic("x", registry.token), bearer(own)]
        assert await opened(registry, ways) == [False] * 3
        for options, kept in ((("--keep-tokens",), True), ((), False)):
            (server.data / "admin.token").unlink()
            done = started("user", "reset", "admin", *data, *options, cwd=tmp_path, env=environment)
            assert done.returncode == 0, done.stderr
            token = (server.data / "admin.token").read_text().strip()
            assert token not in done.stdout
            assert await opened(registry, [bearer(token), *ways[:2]]) == [True, False, False]
            async with registry.client(token) as admin:
                assert (await ask(admin, "GET", "/api/v1/workers")).status == 200
            async with registry.client(own) as limited:
                assert ((await ask(limited, "GET", "/api/v1/workers")).status == 200) is kept
            ways = [bearer(token), basic("x", token)]
