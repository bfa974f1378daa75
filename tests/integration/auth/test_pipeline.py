"""A pipeline as it is: a robot's rights, real clients, the token of a CI, and nothing of ours installed."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from registry.main import run
from tests.kit.access import api, ask, basic, give_role, have_namespaces
from tests.kit.clients import ClientError, client_home
from tests.kit.images import busybox_image, write_layout
from tests.kit.issuer import LOOPBACK, Issuer, running_issuer
from tests.kit.server import Registry, running_registry
from tests.kit.sources import ROOT
from tests.kit.workloads import job_token, make_rule, trust

ROBOT = "team+ci"
INSECURE = "--tls-verify=false"


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with running_issuer() as running:
        yield running


@pytest.fixture
async def registry(tmp_path: Path, database_url: str) -> AsyncIterator[Registry]:
    """One that may ask issuers on loopback, with the namespace ``team`` and a robot that writes there."""
    async with running_registry(tmp_path / "data", database_url, outgoing_networks=LOOPBACK) as running:
        assert running.services is not None
        await have_namespaces(running.services.database, "team")
        async with running.client() as client:
            await api(client, "PUT", "/robots/team%2Bci", status=201, json={})
            await give_role(client, "team/", f"robot:{ROBOT}", "writer")
        yield running


async def test_a_job_pushes_with_its_own_token(
    registry: Registry, client: aiohttp.ClientSession, issuer: Issuer, tmp_path: Path
) -> None:
    await trust(client, issuer)
    await make_rule(client, account=ROBOT)
    layout = f"oci:{write_layout(tmp_path / 'layout', busybox_image(['/bin/true']), tag=['1'])}:1"
    text = job_token(issuer, sha="0123abcd")
    with client_home() as clients:

        async def does(program: str, *arguments: str, stdin: str = "") -> str:
            return await asyncio.to_thread(clients.run, program, *arguments, stdin=stdin)

        login = ("login", INSECURE, "-u", "oidc", "--password-stdin", registry.host)
        with pytest.raises(ClientError, match=r"(?i)invalid username/password"):
            await does("podman", *login, stdin=job_token(issuer, sub="repo:other:ref:refs/heads/main"))
        assert "Login Succeeded" in await does("podman", *login, stdin=text)
        copy = ("copy", "--dest-tls-verify=false", layout)
        await does("skopeo", *copy, f"docker://{registry.host}/team/app:1")
        with pytest.raises(ClientError):
            await does("skopeo", *copy, f"docker://{registry.host}/other/app:1")
        (move,) = (await api(client, "GET", "/repositories/team%2Fapp/tags/1/history"))["items"]
        assert move["actor"] == ROBOT
        assert move["workload"]["commit"] == "0123abcd"
        await api(client, "PUT", "/robots/team%2Bci", json={"disabled": True})
        with pytest.raises(ClientError):
            await does("skopeo", *copy, f"docker://{registry.host}/team/app:2")


async def test_a_refresh_token_of_a_job_ends_with_it(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, issuer: Issuer
) -> None:
    await trust(client, issuer)
    await make_rule(client, account=ROBOT)
    headers = basic("oidc", job_token(issuer))
    query = {"service": "seatrial", "offline_token": "true", "client_id": "docker"}
    given = (await ask(nobody, "GET", "/token", params=query, headers=headers)).json["refresh_token"]
    form = {
        "grant_type": "refresh_token",
        "service": "seatrial",
        "refresh_token": given,
        "scope": "repository:team/app:push repository:other/app:push",
    }
    again = await ask(nobody, "POST", "/token", data=form)
    assert again.json["scope"] == "repository:team/app:push"
    await api(client, "DELETE", "/workload-rules/main", status=204)
    assert (await ask(nobody, "POST", "/token", data=form)).status == 401


async def test_the_examples_of_the_page_are_taken(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEATRIAL_SERVER", registry.url)
    monkeypatch.setenv("SEATRIAL_TOKEN", registry.token)
    page = (ROOT / "docs" / "oidc.md").read_text().replace("\\\n", " ")
    section = page[page.index("### Example: GitHub") : page.index("## What is checked")]
    commands = [line for line in section.splitlines() if line.startswith("seatrial ")]
    assert len(commands) == 6
    for command in commands:
        assert await asyncio.to_thread(run, shlex.split(command)[1:]) == 0, capsys.readouterr()
