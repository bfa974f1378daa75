"""``seatrial audit`` against a running server."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli.test_commands import seatrial
from tests.kit.server import RegistryProcess, inherited


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RegistryProcess]:
    process = RegistryProcess(tmp_path / "data")
    yield process
    process.stop()


@pytest.fixture
def url(server: RegistryProcess) -> str:
    return server.start().url


def run(folder: Path, url: str, *arguments: str) -> Any:
    """The command's output; it has to succeed."""
    done = seatrial(*arguments, "--server", url, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def age(folder: Path, seconds: int) -> None:
    """Let all that is in the trail have happened so long before."""
    with sqlite3.connect(folder / "data" / "seatrial.db", timeout=60) as connection:
        connection.execute("UPDATE events SET at = at - ?", (seconds * 1_000_000,))
    connection.close()


def test_what_was_done_is_listed_exported_and_followed(tmp_path: Path, url: str) -> None:
    for number in range(3):
        run(tmp_path, url, "repo", "create", f"team/app{number}")
    lines = json.loads(run(tmp_path, url, "audit", "list", "--action", "repository.created", "--json"))
    assert [line["repository"] for line in lines] == ["team/app2", "team/app1", "team/app0"]
    assert {line["actor"] for line in lines} == {"admin"}
    shown = run(tmp_path, url, "audit", "list", "--repository", "team/app1", "--since", "1h")
    assert "repository.created" in shown
    assert "app2" not in shown
    assert len(json.loads(run(tmp_path, url, "audit", "list", "--limit", "2", "--json"))) == 2
    assert json.loads(run(tmp_path, url, "audit", "list", "--until", "2020-01-01", "--json")) == []
    age(tmp_path, 60)
    exported = [json.loads(line) for line in run(tmp_path, url, "audit", "export").splitlines()]
    created = [line for line in exported if line["action"] == "repository.created"]
    assert [line["repository"] for line in created] == ["team/app0", "team/app1", "team/app2"]
    follower = subprocess.Popen(
        [*(sys.executable, "-m", "registry.main", "audit", "tail", "--json", "--since", "1h"),
         *("--action", "repository.created", "--server", url)],
        cwd=tmp_path,
        env=inherited() | {"PYTHONPATH": str(Path(__file__).parents[3]), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert follower.stdout is not None
        for expected in created:
            assert json.loads(follower.stdout.readline()) == expected
        run(tmp_path, url, "repo", "create", "team/late")
        age(tmp_path, 60)
        assert json.loads(follower.stdout.readline())["repository"] == "team/late"
    finally:
        follower.kill()
        follower.communicate()


def test_an_export_to_a_file_goes_on_after_its_last_whole_line(tmp_path: Path, url: str) -> None:
    file = tmp_path / "audit.jsonl"
    run(tmp_path, url, "repo", "create", "team/one")
    age(tmp_path, 3600)
    run(tmp_path, url, "audit", "export", "--append-to", str(file))
    before = file.read_text()
    with file.open("a") as torn:
        torn.write('{"cursor": "1.1", "id"')
    run(tmp_path, url, "repo", "create", "team/two")
    age(tmp_path, 60)
    run(tmp_path, url, "audit", "export", "--append-to", str(file))
    after = file.read_text()
    assert after.startswith(before)
    lines = [json.loads(line) for line in after.splitlines()]
    assert len({line["id"] for line in lines}) == len(lines)
    assert [line["repository"] for line in lines if line["action"] == "repository.created"] == [
        "team/one",
        "team/two",
    ]
    file.write_text("something else\n")
    done = seatrial("audit", "export", "--append-to", str(file), "--server", url, cwd=tmp_path)
    assert (done.returncode, file.read_text()) == (64, "something else\n")
    assert "does not end with a line of an export" in done.stderr


def test_nothing_from_elsewhere_moves_the_cursor(tmp_path: Path, url: str) -> None:
    run(tmp_path, url, "repo", "create", "team/app")
    with sqlite3.connect(tmp_path / "data" / "seatrial.db", timeout=60) as connection:
        connection.execute("UPDATE events SET rule = ?, actor = ?", ("\x1b[2J\u009b1A\u202e", "=cmd()|\r\n"))
    connection.close()
    age(tmp_path, 60)
    for command in (("list",), ("list", "--json"), ("export",)):
        out = run(tmp_path, url, "audit", *command)
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", out)


def test_who_has_an_image_and_wrong_questions(tmp_path: Path, url: str) -> None:
    digest = "sha256:" + "0" * 64
    assert json.loads(run(tmp_path, url, "audit", "pulls", digest, "--json")) == []
    assert run(tmp_path, url, "audit", "pulls", digest).split()[:2] == ["DAY", "ACTOR"]
    for wrong in (
        ("pulls", "x"),
        ("list", "--since", "yesterday"),
        ("list", "--action", "nothing"),
        ("list", "--limit", "0"),
    ):
        done = seatrial("audit", *wrong, "--server", url, cwd=tmp_path)
        assert done.returncode in (2, 64), wrong
        assert done.stderr


def test_an_export_that_breaks_off_fails(tmp_path: Path, server: RegistryProcess) -> None:
    url = server.start().url
    run(tmp_path, url, "repo", "create", "team/app")
    with sqlite3.connect(tmp_path / "data" / "seatrial.db", timeout=60) as connection:
        rows = (("x" * 20_000, number) for number in range(4000))
        connection.executemany(
            "INSERT INTO events (kind, actor, data, at) VALUES ('k', 'a', json_quote(?), ?)", rows
        )
        now = time.time_ns() // 1000 - 3_600_000_000
        connection.execute("UPDATE events SET at = at + ? WHERE kind = 'k'", (now,))
    connection.close()
    exporting = subprocess.Popen(
        [sys.executable, "-m", "registry.main", "audit", "export", "--server", url],
        cwd=tmp_path, env=inherited() | {"PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert exporting.stdout is not None
    assert exporting.stdout.readline()
    server.kill()
    _, errors = exporting.communicate()
    assert exporting.returncode == 2
    assert b"cannot be reached" in errors
