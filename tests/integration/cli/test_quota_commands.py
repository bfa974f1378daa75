"""``seatrial quota`` against a running server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from registry.main import run
from tests.kit.distribution import push_blob, push_small
from tests.kit.server import Registry, running_registry


@pytest.fixture
async def registry(
    tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Registry]:
    """One that commands find by the environment."""
    path = tmp_path / "seatrial.db"
    path.write_bytes(sqlite_template.read_bytes())
    async with running_registry(tmp_path / "data", f"sqlite:///{path}") as running:
        monkeypatch.setenv("SEATRIAL_SERVER", running.url)
        monkeypatch.setenv("SEATRIAL_TOKEN", running.token)
        yield running


async def test_commands_about_quotas(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    async def told(*arguments: str, code: int = 0) -> str:
        # In a thread: the server runs in this one.
        assert await asyncio.to_thread(run, ["quota", *arguments]) == code
        captured = capsys.readouterr()
        return captured.out if code == 0 else captured.err

    async def json_of(*arguments: str) -> Any:
        return json.loads(await told(*arguments, "--json"))

    async with registry.client() as client:
        await push_blob(client, "team/app", bytes(2048))
        await push_small(client, "team/app", "1")
    assert await json_of("list") == []
    made = await json_of("set", "team/", "--bytes", "1MiB", "--repositories", "1", "--tags", "4")
    assert made["quota"] == {"bytes": 1 << 20, "repositories": 1, "tags": 4, "uploads": None}
    assert made["above"] == []
    table = await told("set", "team/app", "--bytes", "2GB", "--uploads", "20")
    rows = [line.split("  ") for line in table.splitlines()]
    assert [[cell.strip() for cell in row if cell] for row in rows] == [
        ["ON", "RESOURCE", "USED", "QUOTA", "PERCENT"],
        ["team/app", "bytes", "2.3 KiB", "1.9 GiB", "0 %"],
        ["team/app", "tags", "1", "-", "-"],
        ["team/app", "uploads", "0", "20", "0 %"],
        ["team/", "bytes", "2.3 KiB", "1.0 MiB", "0 %"],
        ["team/", "repositories", "1", "1", "100 %"],
        ["team/", "tags", "1", "4", "25 %"],
    ]
    assert await told("show", "team/app") == table
    assert [place["on"] for place in await json_of("list")] == ["team/", "team/app"]
    assert [place["on"] for place in await json_of("list", "--over", "80")] == ["team/"]
    nearly = (await told("list", "--over", "80")).splitlines()
    assert len(nearly) == 2
    assert nearly[1].split() == ["team/", "repositories", "1", "1", "100", "%"]
    # Nothing is as good as none, and what is not named stays.
    changed = await json_of("set", "team/", "--repositories", "none", "--tags", "0")
    assert changed["quota"] == {"bytes": 1 << 20, "repositories": None, "tags": 0, "uploads": None}
    assert "100 %" in await told("show", "team/")
    assert await json_of("delete", "team/", "--yes") == {"on": "team/", "deleted": True}
    assert [place["on"] for place in await json_of("list")] == ["team/app"]
    for code, arguments, said in (
        (64, ("set", "team/app"), "nothing to change: give --bytes, --repositories, --tags or --uploads"),
        (64, ("set", "team/app", "--tags", "-1"), "--tags: '-1' is neither a number nor 'none'"),
        (64, ("set", "team/app", "--bytes", "many"), "'many' is not a size"),
        (64, ("set", "team/app", "--repositories", "3"), "how many there may be is said of a namespace"),
        (2, ("set", "team/none", "--tags", "3"), "there is no repository team/none"),
        (2, ("show", "none/"), "there is no namespace none"),
        (2, ("delete", "none/", "--yes"), "there is no namespace none"),
    ):
        assert said in await told(*arguments, code=code), arguments
