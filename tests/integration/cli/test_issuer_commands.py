"""``seatrial issuer`` and ``seatrial workload`` against a running server and a real issuer."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from registry.main import run
from tests.kit.access import ask, basic
from tests.kit.issuer import CLIENT_SECRET, LOOPBACK, Issuer, running_issuer
from tests.kit.server import Registry, running_registry
from tests.kit.workloads import AUDIENCE, job_token


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with running_issuer() as running:
        yield running


@pytest.fixture
async def registry(
    tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Registry]:
    """One that may ask issuers on loopback, which commands find by the environment."""
    path = tmp_path / "seatrial.db"
    path.write_bytes(sqlite_template.read_bytes())
    async with running_registry(
        tmp_path / "data", f"sqlite:///{path}", outgoing_networks=LOOPBACK
    ) as running:
        monkeypatch.setenv("SEATRIAL_SERVER", running.url)
        monkeypatch.setenv("SEATRIAL_TOKEN", running.token)
        yield running


async def test_commands_about_issuers(
    registry: Registry,
    issuer: Issuer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def told(*arguments: str, code: int = 0) -> str:
        # In a thread: the server runs in this one.
        assert await asyncio.to_thread(run, list(arguments)) == code
        captured = capsys.readouterr()
        return captured.out if code == 0 else captured.err

    async def json_of(*arguments: str) -> Any:
        return json.loads(await told(*arguments, "--json"))

    secret = tmp_path / "secret"
    secret.write_text(CLIENT_SECRET + "\n")
    made = await json_of(
        *("issuer", "create", "corp", "--url", issuer.url, "--client-id", "us"),
        *("--client-secret-file", str(secret), "--groups-claim", "groups", "--group", "dev=ops=crew"),
        *("--role", "chiefs=administrator", "--claim", "hd=example.org", "--claim", "org~team-*"),
    )
    assert made["has_client_secret"] is True
    assert made["groups"] == {"dev=ops": "crew"}
    assert made["conditions"] == [
        {"claim": "hd", "equals": "example.org"},
        {"claim": "org", "glob": "team-*"},
    ]
    shown = await told("issuer", "show", "corp")
    assert "dev=ops=crew" in shown
    assert CLIENT_SECRET not in shown
    assert issuer.url in await told("issuer", "list")
    checked = await json_of("issuer", "check", "corp")
    assert checked["token_endpoint"] == f"{issuer.url}/token"
    assert [one["kid"] for one in checked["keys"]] == ["key-RS256", "key-ES256"]
    assert 0 <= checked["age_seconds"] < 60
    assert "key-RS256 RS256, key-ES256 ES256" in await told("issuer", "check", "corp")
    assert (await json_of("issuer", "set", "corp", "--create-accounts"))["create_accounts"] is True
    await told("issuer", "link", "corp", "7/8", "admin")
    assert [each["subject"] for each in await json_of("issuer", "identities", "corp")] == ["7/8"]
    await told("issuer", "unlink", "corp", "7/8")
    assert await json_of("issuer", "identities", "corp") == []
    assert "cannot be read" in await told("issuer", "set", "corp", "--client-secret-file", "none", code=64)
    assert "VALUE=NAME" in await told("issuer", "set", "corp", "--group", "x", code=64)

    rule = (
        *("--issuer", "corp", "--audience", AUDIENCE, "--as", "admin", "--scope"),
        *("repository:team/*:push", "--claim", "sub~repo:team/*:ref:refs/heads/main"),
    )
    assert (await json_of("workload", "create", "main", *rule, "--lifetime", "5m"))["seconds"] == 300
    assert "already" in await told("workload", "create", "main", *rule, code=2)
    assert "CLAIM=VALUE" in await told("workload", "create", "x", *rule, "--claim", "x", code=64)
    assert "sub~repo:team/*" in await told("workload", "list")
    job = tmp_path / "job"
    job.write_text(job_token(issuer))
    assert "meets the rule main" in await told("workload", "explain", str(job))
    headers = basic("oidc", job.read_text())
    async with registry.client(anonymous=True) as nobody:
        assert (await ask(nobody, "GET", "/v2/", headers=headers)).status == 200
        assert (await json_of("workload", "set", "main", "--lifetime", "1h"))["seconds"] == 3600
        await told("workload", "delete", "main")
        assert (await ask(nobody, "GET", "/v2/", headers=headers)).status == 401
    assert "meets no rule" in await told("workload", "explain", str(job))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert "give --yes" in await told("issuer", "set", "corp", "--url", "https://id.example", code=64)
    assert "give --yes" in await told("issuer", "delete", "corp", code=64)
    assert issuer.url in await told("issuer", "list")
    await told("issuer", "delete", "corp", "--yes")
    assert "no issuer" in await told("issuer", "show", "corp", code=2)
