"""``seatrial trial queue``, ``trial cancel`` and ``attention``; and a preview of retention by portions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.main import run
from tests.kit.access import api
from tests.kit.distribution import push_image
from tests.kit.server import Registry, RegistryProcess
from tests.kit.trials import tiny_image


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    server = RegistryProcess(tmp_path / "data", trial_on_push="true", trial_platforms="linux/amd64")
    try:
        yield server.start()
    finally:
        server.stop()


def test_what_waits_is_listed_cancelled_and_told_of(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "token"
    token.write_text(registry.token)
    where = ("--server", registry.url, "--token-file", str(token))

    def told(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        assert run([*words, *where]) == code
        printed = capsys.readouterr()
        return printed.out + printed.err

    async def fill() -> None:
        async with registry.client() as admin:
            for tag in ("a", "b", "c"):
                await push_image(admin, "team/app", tag, tiny_image())
            await api(admin, "PATCH", "/quota", json={"on": "team/app", "tags": 3})

    asyncio.run(fill())
    queue = json.loads(told("trial", "queue", "--json"))
    assert (queue["queued"], queue["leased"], len(queue["items"])) == (3, 0, 3)
    lines = told("trial", "queue", "--limit", "1")
    assert "waits for a worker: none asks for jobs" in lines
    assert "0 are tried, 3 wait" in lines
    first = queue["items"][0]["trial"]
    assert "cancelled by admin" in told("trial", "cancel", first)
    assert "nothing to cancel" in told("trial", "cancel", first, code=2)
    ended = json.loads(told("trial", "cancel", queue["items"][1]["trial"], "--json"))
    assert (ended["state"], ended["verdict"]) == ("done", "error")
    assert json.loads(told("trial", "queue", "--json"))["queued"] == 1
    # What somebody cancelled nobody needs to be told of.
    attention = json.loads(told("attention", "--json"))
    assert [(one["kind"], one["place"], one["subject"], one["id"]) for one in attention] == [
        ("quota", "team/app", "tags", "100")
    ]
    assert "team/app" in told("attention")
    kept = ("retention", "preview", "team/app", "--keep", "none", "--json")
    (rest,) = json.loads(told(*kept, "--skip", "1", "--limit", "1"))
    assert [one["tag"] for one in rest["items"]] == ["b"]
    assert rest["more"] is True
