"""The settings of a registry as administrators read them: by the API, the command and the page."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from registry.contract.limits import Limits
from registry.main import run
from registry.settings import SECRET_FILES, Settings
from tests.kit.access import api, ask, make_user
from tests.kit.pagereading import read, sign_in, visitor, words_of
from tests.kit.server import running_registry


async def test_what_a_registry_was_started_with(
    tmp_path: Path, database_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "gate": "enforce",
        "outgoing_networks": ("10.1.2.0/24", "10.1.3.0/24"),
        "limits": Limits(memory_bytes=2**30),
        "trial_attempts": 5,
    }
    async with (
        running_registry(tmp_path / "data", database_url, **given) as registry,
        registry.client() as admin,
        visitor(registry) as person,
    ):
        found = {one["name"]: one for one in (await api(admin, "GET", "/settings"))["items"]}
        names = {name.partition(".")[0] for name in found}
        assert names == set(Settings.model_fields)
        assert found["gate"]["value"] == "enforce"
        assert found["gate"]["variable"] == "SEATRIAL_GATE"
        assert found["outgoing_networks"]["value"] == "10.1.2.0/24,10.1.3.0/24"
        assert found["limits.memory_bytes"]["value"] == str(2**30)
        assert found["limits.memory_bytes"]["variable"] == "SEATRIAL_LIMITS__MEMORY_BYTES"
        changed = {name for name, one in found.items() if not one["is_default"]}
        assert {*given, "limits.memory_bytes", "data"} - {"limits"} <= changed
        assert "limits.cpus" not in changed
        assert "tls" not in changed
        # An address of a database has a password in it; that of these tests too.
        assert {name for name, one in found.items() if one["is_secret"]} == set(SECRET_FILES)
        assert all(found[name]["value"] is None for name in SECRET_FILES)
        assert (found["database_url"]["is_default"]) is False
        await sign_in(person, registry)
        page = await read(person, "/administration/settings")
        assert "SEATRIAL_GATE enforce gate of new repositories" in words_of(page)
        assert "SEATRIAL_DATABASE_URL given, and not shown" in words_of(page)
        assert "SEATRIAL_TLS " not in words_of(page)
        every = await read(person, "/administration/settings?which=all")
        assert "SEATRIAL_TLS not given (by default)" in words_of(every)
        said = [json.dumps(found), page.body.decode(), every.body.decode()]
        assert not any(database_url in each for each in said)
        monkeypatch.setenv("SEATRIAL_SERVER", registry.url)
        monkeypatch.setenv("SEATRIAL_TOKEN", registry.token)

        async def told(*arguments: str) -> Any:
            assert await asyncio.to_thread(run, ["settings", *arguments, "--json"]) == 0
            return json.loads(capsys.readouterr().out)

        assert len(await told()) == len(found)
        assert {one["name"] for one in await told("--changed")} == changed
        auditor = await make_user(admin, "looker", auditor=True)
        async with registry.client(auditor, user="looker") as looker:
            assert (await ask(looker, "GET", "/api/v1/settings")).status == 403
