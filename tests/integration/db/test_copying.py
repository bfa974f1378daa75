"""``seatrial db copy``: everything arrives, nothing is written over, and it can be killed and run again."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from registry.content.uploadledger import DatabaseLedger
from registry.db import migrate
from registry.db.engine import Database
from registry.db.schema import metadata
from registry.main import run
from registry.storage.ledger import Part
from tests.kit.access import api
from tests.kit.distribution import push_blob, start_upload
from tests.kit.server import RegistryProcess, running_registry
from tests.kit.sources import ROOT
from tests.kit.trials import Port, make_index, open_port, tiny_image

EVENTS = 6000
"""More rows than several batches hold."""
COUNTED = ("repository_usage", "usage_changes")
"""What follows from the other tables."""
LOST = "sha256:" + "f" * 64
"""A blob that no repository shows."""


@pytest.fixture(scope="module")
def used_file(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Path:
    """An SQLite database that was used: each of its tables has rows."""
    folder = tmp_path_factory.mktemp("used")
    path = folder / "seatrial.db"
    shutil.copyfile(sqlite_template, path)
    asyncio.run(_use(folder / "data", f"sqlite:///{path}"))
    with sqlite3.connect(path) as connection:
        connection.executemany(
            # Of now: a server that starts on them removes what is too old.
            f"INSERT INTO events (kind, actor, data, at) VALUES ('k', 'ä', ?, {time.time_ns() // 1000} + ?)",
            (('{"n": ' + str(number) + "}", number) for number in range(EVENTS)),
        )
        # In their places already, so that no server that starts on them gives them some.
        connection.execute("UPDATE events SET position = id")
        connection.execute("INSERT INTO event_feed VALUES (1, 0) ON CONFLICT DO NOTHING")
        connection.execute("UPDATE event_feed SET position = (SELECT max(id) FROM events)")
        # Of an upload to S3 in progress.
        connection.execute("INSERT INTO multipart_uploads VALUES ('l', 1, NULL, 7, 'm', 2, 0, 0, 0, 1)")
        connection.execute("INSERT INTO multipart_parts VALUES ('l', 1, 7, 'e', NULL)")
        connection.execute(f"INSERT INTO blobs VALUES (40, '{LOST}', 1, 'first', 1, 'size', 1)")
        connection.execute("INSERT INTO refresh_tokens VALUES ('r', 1, NULL, 'h', 'c', NULL, 1, 9, NULL)")
        connection.execute("UPDATE namespaces SET visibility = 'public', create_on_push = 1 WHERE id = 1")
        connection.execute("INSERT INTO groups VALUES (1, 'crew', 1)")
        connection.execute("INSERT INTO group_members VALUES (1, 1, '')")
        connection.execute("INSERT INTO grants VALUES (1, 1, NULL, NULL, 1, 'owner', 1)")
        connection.execute("INSERT INTO signature_rules VALUES (1, 1, NULL, 'n', 'p', NULL, NULL, 'a', 1)")
        connection.execute(f"INSERT INTO signatures VALUES (1, 1, '{LOST}', x'00', x'01', NULL, NULL)")
        connection.execute(f"INSERT INTO signature_matches VALUES (1, 1, 1, '{LOST}')")
        connection.execute("INSERT INTO tag_rules VALUES (1, 1, NULL, 'glob', 'v*', '[]', 'r', 'a', 1)")
        connection.execute("INSERT INTO retention_policies VALUES (1, NULL, 1, '{}', NULL, 'a', 1)")
        connection.execute(
            "INSERT INTO retention_runs VALUES (1, 1, '{}', 1, 1, 'a', 1, 1, 1, 0, 'done', NULL, 1)"
        )
        connection.execute("INSERT INTO retention_items VALUES (1, 1, 't', 'd', 'w', NULL, NULL)")
        connection.execute("INSERT INTO repository_readmes VALUES (1, '# ä', 'a', 1)")
        connection.execute("INSERT INTO quotas VALUES (1, 1, NULL, 'tags', 100)")
        connection.execute("INSERT INTO findings_policies VALUES (1, NULL, 1, '{}', 'd', 'a', 1)")
        connection.execute("INSERT INTO scanners VALUES (1, NULL, 1, 'n', 'i', 'd', 'a', 2, 1)")
        connection.execute("INSERT INTO attestation_marks VALUES ('part', 1)")
        connection.execute("INSERT INTO tombstones VALUES ('gone', 1, 1)")
        connection.execute(
            f"INSERT INTO blocks VALUES (1, NULL, 1, 'layer', '{LOST}', 'r', 'a', 1, NULL, NULL, NULL)"
        )
        connection.execute(
            "INSERT INTO waivers VALUES"
            """ (1, 1, NULL, '["fail"]', 'r', 'a', 1, 1, 9, 'b', 2, NULL, NULL, NULL, NULL)"""
        )
        connection.execute(
            f"INSERT INTO promotions VALUES (1, 1, 't', '{LOST}', NULL, 's', 1, NULL, 'r', 'a', 1, 1, 9, 'b',"
            " 2, 3, NULL, NULL, NULL, NULL)"
        )
        connection.execute("INSERT INTO pauses VALUES (1, 9, 'r', 'a', 1)")
        connection.execute(f"INSERT INTO pull_days VALUES (1, '{LOST}', 20000, 'a', 'b', 3, 1, NULL, 't')")
        connection.execute("INSERT INTO sessions VALUES ('s', 1, NULL, 'h', 1, 1, 2, '::1', 'browser')")
        connection.execute("INSERT INTO idempotency_keys VALUES ('k', 1, 'm', 201, '{}', 1)")
        connection.execute("INSERT INTO sign_in_failures VALUES ('k', 'place', 1)")
        connection.execute("INSERT INTO sign_in_places VALUES (1, '192.0.2.1', 1)")
        connection.execute(
            "INSERT INTO issuers VALUES (1, 'i', 'https://i', 'c', x'00', '[]', 'n', 'g', '{}', '{}', '[]',"
            " 1, NULL, 'sha', 1)"
        )
        connection.execute("INSERT INTO identities VALUES (1, 'ä', 1, 1, NULL)")
        connection.execute("INSERT INTO used_nonces VALUES ('h', 1)")
        connection.execute(
            "INSERT INTO webhooks (id, url, kinds, format, ordered, secret, created_by, created_at)"
            " VALUES ('h', 'https://h', '[]', 'docker', 1, x'00', 'a', 1)"
        )
        connection.execute("INSERT INTO secrets VALUES ('s', 'n', 1, NULL, x'00', 'a', 1, NULL)")
        connection.execute(
            "INSERT INTO hooks VALUES ('h', 'n', NULL, NULL, 'github', '{}', x'00', 'a', 1, x'01', 2, NULL)"
        )
        connection.execute(
            "INSERT INTO upstreams VALUES ('u', 'n', 1, 1, 'h', 0, 't', '[\"*\"]', 9, 'a', x'00', 'a', 1)"
        )
        connection.execute(
            "INSERT INTO upstream_copies SELECT id, 'u', 'i:1', NULL, NULL, NULL, 1 FROM trials LIMIT 1"
        )
        connection.execute("INSERT INTO hook_messages VALUES ('h', 'k', '[]', 1)")
        connection.execute("INSERT INTO live_logs SELECT 'l', 0, 0, id, 'n', NULL, 't' FROM parts LIMIT 1")
        connection.execute(
            "INSERT INTO schedules VALUES (1, 1, NULL, 24, NULL, 12, 9000000000000000, 'a', 1)"
        )
        connection.execute("INSERT INTO collections VALUES (1, 'a', 1, 1, 'done', '', 0, 0, 0, 0, 0, 0, 1)")
        connection.execute("INSERT INTO dead_blobs VALUES ('00', 1, 1)")
        connection.execute("INSERT INTO scrubs VALUES (1, 'a', 1, 1, 9, 0, 0, 0, 0, 0, 0, 0, 0, NULL, 1)")
        connection.execute("INSERT INTO byte_holds VALUES ('b', 1)")
        connection.execute(
            "INSERT INTO scans"
            " SELECT 1, 'sha256:d', min(id), 'd', 'p', 's', '', 1, 0, 0, 0, 1, '[]', '{}' FROM blobs"
        )
        connection.execute("INSERT INTO image_scans SELECT max(id), 1, 'w', 1 FROM manifests")
        connection.execute(
            "INSERT INTO deleted_manifests SELECT 1, 1, min(digest), 'm', 'a', 1 FROM manifest_contents"
        )
        connection.execute("INSERT INTO chain_prefixes SELECT max(id), 1, 'sha256:d' FROM manifests")
        connection.execute("INSERT INTO components VALUES (1, 'k', 'npm', 'npm', 'ä', '1', 'ä', '1', 1)")
        connection.execute("INSERT INTO scan_components VALUES (1, 1, 0, NULL)")
        connection.execute("INSERT INTO block_components VALUES (1, 1)")
        connection.execute(
            "INSERT INTO matchings VALUES (1, 'sha256:g', 1, 1, 1, '[]', '[]', 1, 1, 1, 1, 1, 1)"
        )
        connection.execute(
            "INSERT INTO component_findings VALUES"
            " (1, 'CVE-1', '[]', 'vulnerability', 'high', 7.5, 'ä', NULL, 'affected', 1, 0.25, NULL, 1)"
        )
        connection.execute("INSERT INTO advisory_names VALUES ('GHSA-ä', 'CVE-1')")
        connection.execute("INSERT INTO finding_changes VALUES (1, 1, 'CVE-1', 'new', 'high', NULL)")
        connection.execute("INSERT INTO changed_images SELECT max(id), 1 FROM manifests")
        connection.execute("INSERT INTO rejudgings SELECT max(id), 1 FROM manifests")
        connection.execute(
            "INSERT INTO image_findings"
            " SELECT max(id), 'd', NULL, 'pass', 'ä', '{}', '{}', 1, NULL, 0, 1, '{}' FROM manifests"
        )
        connection.execute("INSERT INTO trial_seconds VALUES ('team/', 1, 0.5)")
        connection.execute("INSERT INTO hook_trials SELECT id, 'h' FROM trials LIMIT 1")
        connection.execute(
            "INSERT INTO deliveries (id, webhook_id, position, kind, format, body, state, created_at)"
            " VALUES ('d', 'h', 1, 'k', 'docker', '{}', 'pending', 1)"
        )
        connection.execute("INSERT INTO workload_rules VALUES (1, 'r', 1, 1, 'a', '[]', '[]', 60, 1)")
        connection.execute(
            "INSERT INTO workload_tokens"
            """ SELECT id, 1, '{"issuer": "i", "rule": "r", "subject": "s"}', 1 FROM tokens LIMIT 1"""
        )
    connection.close()
    return path


async def _use(data: Path, url: str) -> None:
    async with open_port(data, url) as port:
        image = tiny_image()
        await port.push(image, tag="1")
        await port.push(make_index(image, tiny_image()), tag="2")
        await port.push(image, tag="2")
        worker = await port.worker("w")
        job = await worker.claim()
        assert (await worker.report(job)).status == 204
        # Else the next server signs it, and that is an event.
        for _ in range(600):
            if all(one["signed_at"] for one in await attestations_of(port)):
                break
            await asyncio.sleep(0.05)
        await worker.claim()
        await start_upload(port.admin, "other")
    database = Database(url)
    ledger = DatabaseLedger(database)
    await ledger.create("0" * 32)
    held = await ledger.hold("0" * 32)
    assert held is not None
    await ledger.save(replace(held, length=5), Part(1, 5, '"etag"', None))
    await database.close()


async def attestations_of(port: Port) -> Any:
    return (await api(port.admin, "GET", "/repositories/team%2Fapp/attestations"))["items"]


@contextmanager
def held_copy(source: str, target: str) -> Iterator[subprocess.Popen[bytes]]:
    """``db copy`` in the middle of a table, until the block ends; it has ended then too."""
    migrate.upgrade(target)
    with closing(psycopg.connect(target)) as holding:
        # The copy stops at a row that is not committed, after some batches of the same table.
        holding.execute("INSERT INTO events (id, kind, actor, data, at) VALUES (3200, 'k', 'a', '{}', 1)")
        process = subprocess.Popen(
            [sys.executable, "-m", "registry.main", "db", "copy", "--from", source, "--to", target], cwd=ROOT
        )
        try:
            deadline = time.monotonic() + 60
            while rows(target, "SELECT count(*) FROM events") != [(3000,)]:
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.05)
            yield process
        finally:
            holding.rollback()
            process.wait(60)


@pytest.fixture
def source(used_file: Path, tmp_path: Path) -> str:
    path = tmp_path / "source.db"
    shutil.copyfile(used_file, path)
    return f"sqlite:///{path}"


@pytest.fixture
def target(postgres: Any) -> Any:
    """An empty PostgreSQL."""
    name = postgres.create()
    yield postgres.url(name)
    postgres.drop(name)


def copy(source: str, target: str, *more: str) -> int:
    return run(["db", "copy", "--from", source, "--to", target, *more])


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"))
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()
    with psycopg.connect(url) as opened:
        return opened.execute(query).fetchall()


def execute(url: str, *statements: str) -> None:
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///"), timeout=60) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            for statement in statements:
                connection.execute(statement)
        connection.close()
        return
    with psycopg.connect(url) as opened:
        for statement in statements:
            opened.execute(statement)


def test_every_table_arrives_in_postgresql_and_comes_back(
    source: str, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert copy(source, target, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    tables = {table["name"]: table for table in told["tables"]}
    assert told["finished"] is True
    assert set(tables) == set(metadata.tables) - {"epochs", "schema_floor", *COUNTED}
    for name, table in tables.items():
        assert table["rows"] == table["written"] > 0, f"{name} has no row that could be lost"
        assert table["deleted"] == 0
        count = rows(target, f"SELECT count(*) FROM {name}")
        assert count == rows(source, f"SELECT count(*) FROM {name}") == [(table["rows"],)]
    assert rows(
        target, "SELECT id, digest, raw FROM manifests JOIN manifest_contents USING (digest) ORDER BY 1"
    ) == [
        (number, digest, raw)
        for number, digest, raw in rows(
            source, "SELECT id, digest, raw FROM manifests JOIN manifest_contents USING (digest) ORDER BY 1"
        )
    ]
    # Every cache looks anew, and the next row has a number that none had.
    (before,), (after,) = (rows(url, "SELECT content, access, gate FROM epochs") for url in (source, target))
    assert [new - old for old, new in zip(before, after, strict=True)] == [1, 1, 1]
    execute(target, "INSERT INTO events (kind, actor, data, at) VALUES ('k', 'a', '{}', 1)")
    assert rows(target, "SELECT max(id) FROM events")[0][0] == tables["events"]["rows"] + 1
    execute(target, f"DELETE FROM events WHERE id = {tables['events']['rows'] + 1}")
    # And back: the same rows have the same checksums.
    back = f"sqlite:///{tmp_path / 'back.db'}"
    assert copy(target, back, "--json") == 0
    returned = {table["name"]: table for table in json.loads(capsys.readouterr().out)["tables"]}
    assert {name: table["checksum"] for name, table in returned.items()} == {
        name: table["checksum"] for name, table in tables.items()
    }


async def test_a_registry_goes_on_with_the_copy(
    source: str, target: str, used_file: Path, tmp_path: Path
) -> None:
    assert await asyncio.to_thread(copy, source, target) == 0
    data = tmp_path / "data"
    data.mkdir()
    for name in ("secret.key", "admin.token"):
        shutil.copyfile(used_file.parent / "data" / name, data / name)
    async with running_registry(data, target) as registry, registry.client() as admin:
        async with admin.get("/v2/team/app/tags/list") as listed:
            assert await listed.json() == {"name": "team/app", "tags": ["1", "2"]}
        await push_blob(admin, "team/app", b"a new one")


def test_killed_in_the_middle_it_goes_on_where_it_was(
    source: str, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with held_copy(source, target) as process:
        process.kill()
        process.wait()
    # No server starts on half of it, and nothing else is copied over it.
    with pytest.raises(migrate.ConflictError, match="copy into this database was begun"):
        migrate.upgrade(target)
    # The source went on: rows changed, went, and came again under a name that had been given up.
    execute(
        source,
        "UPDATE events SET data = '{\"changed\": 1}' WHERE id = 7",
        "DELETE FROM events WHERE id BETWEEN 100 AND 149",
        "DELETE FROM blobs WHERE id = 40",
        f"INSERT INTO blobs VALUES (50, '{LOST}', 1, 'second', 5, NULL, NULL)",
    )
    capsys.readouterr()
    assert copy(source, target, "--json") == 0
    tables = {table["name"]: table for table in json.loads(capsys.readouterr().out)["tables"]}
    events = tables["events"]
    assert events["deleted"] == 50
    assert events["written"] == events["rows"] - 2950 + 1
    assert tables["blobs"]["deleted"] == 1
    assert rows(target, "SELECT data FROM events WHERE id = 7") == [('{"changed": 1}',)]
    assert migrate.look(target).before == migrate.newest()
    # Finished: it is a database like any other, and nothing is copied over it.
    assert copy(source, target) == 2
    assert "the target is not empty" in capsys.readouterr().err


def test_a_server_that_runs_is_seen_and_can_be_copied_ahead(
    source: str, target: str, used_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(used_file.parent / "data", data)
    server = RegistryProcess(data, source)
    server.start()
    try:
        assert copy(source, target) == 2
        assert "a server uses the source: stop it first" in capsys.readouterr().err
        assert copy(source, target, "--dry-run", "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["served"], found["begun"], found["rows"]["events"] > EVENTS) == (True, False, True)
        assert rows(target, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
        assert copy(source, target, "--ahead") == 0
        assert "run this again without --ahead" in capsys.readouterr().out
    finally:
        server.stop()
    execute(source, "INSERT INTO events (kind, actor, data, at) VALUES ('late', 'a', '{}', 1)")
    # The server may have told more since, and given what it told before its place in the feed.
    copied = set(rows(target, "SELECT * FROM events"))
    since = [row for row in rows(source, "SELECT * FROM events") if row not in copied]
    assert copy(source, target, "--json") == 0
    tables = {table["name"]: table for table in json.loads(capsys.readouterr().out)["tables"]}
    assert tables["events"]["written"] == len(since) < EVENTS
    assert rows(target, "SELECT count(*) FROM events WHERE kind = 'late'") == [(1,)]


def test_a_server_on_postgresql_is_seen(
    source: str, make_postgres_url: Callable[[], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = make_postgres_url()
    server = RegistryProcess(tmp_path / "data", url)
    server.start()
    try:
        assert copy(url, f"sqlite:///{tmp_path / 'copy.db'}") == 2
        assert "a server uses the source" in capsys.readouterr().err
        assert not (tmp_path / "copy.db").exists()
    finally:
        server.stop()


def test_no_server_starts_while_it_is_copied(
    source: str, target: str, used_file: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(used_file.parent / "data", data)
    with held_copy(source, target) as process:
        with pytest.raises(AssertionError, match="the database is being copied"):
            RegistryProcess(data, source).start()
        assert run(["db", "copy", "--from", source, "--to", target]) == 2
    assert process.returncode == 0


def test_what_is_no_copy_of_this_source_is_left_alone(
    source: str, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(source: str, target: str, why: str, code: int = 2) -> None:
        assert copy(source, target) == code
        assert why in capsys.readouterr().err

    refused(source, source, "the same database")
    refused(f"sqlite:///{tmp_path / 'none.db'}", target, "there is no such file")
    assert not (tmp_path / "none.db").exists()
    refused("mysql://a", target, "--from: must be sqlite:///FILE or postgresql://", 64)
    refused(source, "postgresql://u@h:secret/d", "--to: cannot be read as an address\n", 64)
    refused(source, "postgresql://nobody:hidden@127.0.0.1:1/x", "--to: the database cannot be used", 64)
    assert "hidden" not in capsys.readouterr().err
    empty = f"sqlite:///{tmp_path / 'empty.db'}"
    migrate.upgrade(empty)
    refused(empty, target, "there is nothing to copy")
    # Another program's tables, rows of a registry, a copy of another one.
    execute(target, "CREATE TABLE theirs (id int)")
    refused(source, target, "tables of something else")
    execute(target, "DROP TABLE theirs")
    migrate.upgrade(target)
    execute(target, "INSERT INTO manifest_contents VALUES ('sha256:0', 'x')")
    refused(source, target, "there are rows in manifest_contents")
    execute(target, "DELETE FROM manifest_contents")
    marker = f"copying {migrate.newest()} 0123456789abcdef"
    assert len(marker) <= 32, "what the column holds"
    execute(target, f"UPDATE alembic_version SET version_num = '{marker}'")
    refused(source, target, "a begun copy of another database")
    assert rows(target, "SELECT count(*) FROM accounts") == [(0,)]
    execute(source, "UPDATE alembic_version SET version_num = '9999'")
    refused(source, target, "schema 9999")


def test_a_row_that_postgresql_cannot_keep_is_named(
    source: str, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(
        source, "INSERT INTO events (id, kind, actor, data, at) VALUES (99999, 'k', 'a' || char(0), '{}', 1)"
    )
    assert copy(source, target) == 2
    assert "events: actor of the row 99999 has a NUL character" in capsys.readouterr().err
    execute(source, "UPDATE events SET actor = 'a' WHERE id = 99999")
    assert copy(source, target) == 0


def test_what_else_writes_to_the_target_is_noticed(
    source: str, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert copy(source, target, "--ahead") == 0
    execute(
        target,
        "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN NEW.data := 'meddled'; RETURN NEW; END $$",
        "CREATE TRIGGER meddle BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION meddle()",
    )
    execute(source, "INSERT INTO events (kind, actor, data, at) VALUES ('late', 'a', '{}', 1)")
    assert copy(source, target) == 2
    assert "the copy differs from its source in events" in capsys.readouterr().err
    execute(target, "DROP TRIGGER meddle ON events")
    assert copy(source, target) == 0
