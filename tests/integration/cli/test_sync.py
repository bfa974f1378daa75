"""``seatrial sync``: rules in a file, carried out once or again and again."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from registry.cli.syncrules import parse_rules
from registry.errors import RequestInvalidError
from registry.main import run
from tests.kit.images import file, make_image, make_layer, to_json
from tests.kit.server import Registry, running_registry
from tests.kit.sources import ROOT
from tests.kit.upstream import Elsewhere, Said, running_elsewhere

FIRST = make_image(make_layer(file("a", b"one")))
SECOND = make_image(make_layer(file("a", b"two")))
SECONDS = 60

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
async def here(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    async with running_registry(tmp_path / "data", database_url) as running:
        monkeypatch.setenv("SEATRIAL_SERVER", running.url)
        monkeypatch.setenv("SEATRIAL_TOKEN", running.token)
        yield running


def hold(elsewhere: Elsewhere, name: str, **images: Any) -> None:
    elsewhere.answers[f"/v2/{name}/tags/list"] = Said(body=to_json({"name": name, "tags": list(images)}))
    for tag, image in images.items():
        elsewhere.hold(name, tag, image)


async def synced(capsys: pytest.CaptureFixture[str], rules: Path, *arguments: str, code: int = 0) -> Any:
    ended = await asyncio.to_thread(run, ["sync", str(rules), "--json", *arguments])
    said = capsys.readouterr()
    assert ended == code, said.err
    return json.loads(said.out)["rules"] if said.out else said.err


async def read(registry: Registry, path: str) -> bytes | None:
    async with registry.client() as client, client.get(path) as answer:
        return await answer.read() if answer.status == 200 else None


async def test_rules_are_carried_out_and_one_that_fails_stops_no_other(
    here: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "rules.toml"
    (tmp_path / "password").write_text("canary\n")
    async with running_elsewhere() as elsewhere:
        hold(elsewhere, "lib/app", v1=FIRST, dev=SECOND)
        hold(elsewhere, "lib/other", v1=FIRST)
        rules.write_text(
            f"""
[[sync]]
from = "http://{elsewhere.host}"
repositories = ["none/such"]
username = "me"
password_file = "password"

[[sync]]
from = "http://{elsewhere.host}"
repositories = ["lib/app", "lib/other"]
exclude = ["*/other"]
tags = ["v*"]
into = "mirror"
grandfathered = "7d"
"""
        )
        would = await synced(capsys, rules, "--dry-run", code=2)
        assert [one["new"] for one in would[1]["repositories"]] == [["v1"]]
        assert await read(here, "/v2/mirror/lib/app/manifests/v1") is None
        first, second = await synced(capsys, rules, code=2)
        assert first["repositories"][0]["failed"]
        assert [one["into"] for one in second["repositories"]] == ["mirror/lib/app"]
        assert await read(here, "/v2/mirror/lib/app/manifests/v1") == FIRST.manifest
        assert await read(here, "/v2/mirror/lib/app/manifests/dev") is None
        assert "canary" not in json.dumps([first, second])
        # What moved there moves here; what was deleted there stays.
        hold(elsewhere, "lib/app", v1=SECOND)
        again = await synced(capsys, rules, code=2)
        assert again[1]["repositories"][0]["moved"][0]["to"] == SECOND.digest
        hold(elsewhere, "lib/app")
        await synced(capsys, rules, code=2)
        assert await read(here, "/v2/mirror/lib/app/manifests/v1") == SECOND.manifest


async def test_a_registry_that_is_not_there(
    here: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[sync]]\nfrom = "http://127.0.0.1:1"\n')
    (one,) = await synced(capsys, rules, code=2)
    assert "cannot be reached" in one["error"]


async def test_again_and_again_by_the_file_as_it_is_then(here: Registry, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    async with running_elsewhere() as elsewhere:
        hold(elsewhere, "lib/app", v1=FIRST)
        text = f'[[sync]]\nfrom = "http://{elsewhere.host}"\nrepositories = ["lib/app"]\ninto = "%s"\n'
        rules.write_text(text % "one")
        command = [sys.executable, "-m", "registry.main", "sync", str(rules), "--every", "10s"]
        with (tmp_path / "log").open("wb") as log:
            looping = subprocess.Popen(command, cwd=ROOT, env=os.environ, stdout=log, stderr=log)
        try:
            await until(here, "/v2/one/lib/app/manifests/v1", FIRST.manifest)
            rules.write_text("half a fi")
            rules.write_text(text % "two")
            hold(elsewhere, "lib/app", v1=SECOND)
            await until(here, "/v2/two/lib/app/manifests/v1", SECOND.manifest)
            assert looping.poll() is None
        finally:
            looping.terminate()
            looping.wait(SECONDS)


async def until(registry: Registry, path: str, raw: bytes) -> None:
    for _ in range(SECONDS * 2):
        if await read(registry, path) == raw:
            return
        await asyncio.sleep(0.5)
    raise AssertionError(path)


async def test_only_one_by_the_same_file(
    here: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[sync]]\nfrom = "http://127.0.0.1:1"\n')
    with rules.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "another sync by" in await synced(capsys, rules, code=2)
    assert "cannot be read" in await synced(capsys, tmp_path / "none", code=64)
    assert "10s at least" in await synced(capsys, rules, "--every", "1s", code=64)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "sync"),
        ("sync = []", "sync"),
        ("[[sync]]", "from"),
        ("[[sync]]\nfrom = 7", "from"),
        ('[[sync]]\nfrom = "x"\npassword = "canary"', "password"),
        ('[[sync]]\nfrom = "x"\nparallel = 99', "parallel"),
        ('[[sync]]\nfrom = "x"\nkeep = "yes"', "keep"),
        ("[[sync", "not TOML"),
    ],
)
def test_rules_that_are_none(text: str, why: str, database_url: str) -> None:
    with pytest.raises(RequestInvalidError, match=why) as raised:
        parse_rules(text)
    assert "canary" not in raised.value.message


def test_the_example_of_the_docs(database_url: str) -> None:
    text = (ROOT / "docs/moving.md").read_text(encoding="utf-8")
    (rule,) = parse_rules(text.partition("```toml\n")[2].partition("```")[0])
    assert set(rule.model_fields_set) >= {"url", "repositories", "versions", "into", "password_file"}


@pytest.mark.parametrize("wrong", ['versions = ["~1"]', 'tags = ["a/b"]', 'grandfathered = "soon"'])
async def test_a_rule_that_cannot_be_meant_is_told_at_the_start(
    wrong: str, here: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(f'[[sync]]\nfrom = "http://127.0.0.1:1"\n{wrong}\n')
    assert await synced(capsys, rules, code=64)
