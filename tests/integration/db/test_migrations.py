"""Migrations: they make what the models say, never go down, and keep a way back."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import make_url

from registry.cli.upgrading import upgrade_and_tell
from registry.db import migrate
from registry.db.schema import metadata
from registry.errors import ConflictError
from registry.main import run
from registry.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}
HEAD = ScriptDirectory.from_config(migrate.alembic_config()).get_current_head()


def execute(url: str, *statements: str) -> None:
    parsed = make_url(url)
    engine = create_engine(parsed.set(drivername=DRIVERS[parsed.get_backend_name()]))
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def test_models_and_migrations_agree(database_url: str) -> None:
    parsed = make_url(database_url)
    engine = create_engine(parsed.set(drivername=DRIVERS[parsed.get_backend_name()]))
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []
        found = inspect(connection)
        for table in metadata.sorted_tables:
            checks = {check["name"] for check in found.get_check_constraints(table.name)}
            wanted = {
                str(constraint.name) for constraint in table.constraints
                if type(constraint).__name__ == "CheckConstraint"
            }  # fmt: skip
            assert {name.removeprefix(f"ck_{table.name}_") for name in wanted} == {
                str(name).removeprefix(f"ck_{table.name}_") for name in checks
            }, table.name
    engine.dispose()


def test_an_empty_database_gets_the_newest_schema_once(empty_database_url: str) -> None:
    assert migrate.look(empty_database_url).before is None
    first = migrate.upgrade(empty_database_url)
    assert first.before is None
    assert first.backup is None
    again = migrate.upgrade(empty_database_url)
    assert (again.before, again.after, again.backup) == (first.after, first.after, None)
    assert migrate.look(empty_database_url) == again


def test_sqlite_readers_never_wait_for_a_writer_from_the_first_start_on(tmp_path: Path) -> None:
    """Who turns a file to WAL later waits for its readers, and others for him: with the event loop among
    them, until time is up."""
    path = tmp_path / "seatrial.db"
    for _ in range(2):
        migrate.upgrade(f"sqlite:///{path}")
        with closing(sqlite3.connect(path)) as file:
            assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            file.execute("PRAGMA journal_mode = DELETE")


def test_a_newer_database_is_refused_and_left_alone(database_url: str) -> None:
    execute(
        database_url,
        "UPDATE alembic_version SET version_num = '9999'",
        "UPDATE schema_floor SET oldest = '9999'",
    )
    for call in (migrate.upgrade, migrate.look):
        with pytest.raises(
            ConflictError, match="the database has schema 9999, which this version does not know"
        ):
            call(database_url)
    execute(database_url, "SELECT id FROM epochs", f"UPDATE alembic_version SET version_num = '{HEAD}'")
    assert migrate.look(database_url).before == HEAD


def test_a_newer_schema_that_only_grew_is_no_hindrance(
    empty_database_url: str, add_migration: Callable[[str], None]
) -> None:
    add_migration("op.create_table('more', sa.Column('id', sa.Integer()))")
    assert migrate.upgrade(empty_database_url).after == "next"
    add_migration("")  # as the version before it is
    for call in (migrate.upgrade, migrate.look):
        found = call(empty_database_url)
        assert (found.before, found.after, found.newer) == ("next", "next", True)
    add_migration("op.drop_table('events')\n    op.execute(\"UPDATE schema_floor SET oldest = 'next'\")")
    execute(empty_database_url, f"UPDATE alembic_version SET version_num = '{HEAD}'")
    assert not migrate.upgrade(empty_database_url).newer
    add_migration("")
    with pytest.raises(ConflictError, match="the database has schema next, which this version does not know"):
        migrate.upgrade(empty_database_url)


def test_the_version_before_says_that_it_runs_on(
    tmp_path: Path, add_migration: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    add_migration("pass")
    assert run(["db", "upgrade", "--data", str(tmp_path)]) == 0
    add_migration("")
    capsys.readouterr()
    assert run(["db", "upgrade", "--data", str(tmp_path)]) == 0
    assert f"schema next, of a newer version; this one knows {HEAD} and runs on it" in capsys.readouterr().err
    assert run(["db", "check", "--data", str(tmp_path)]) == 0
    # Rows of tables that it does not know it cannot copy.
    copy = ["--from", f"sqlite:///{tmp_path / 'seatrial.db'}", "--to", f"sqlite:///{tmp_path / 'copy.db'}"]
    assert run(["db", "copy", *copy]) == 2
    assert f"schema next and this version copies {HEAD}" in capsys.readouterr().err


def test_logs_that_there_are_already_are_counted(empty_database_url: str) -> None:
    parsed = make_url(empty_database_url)
    engine = create_engine(parsed.set(drivername=DRIVERS[parsed.get_backend_name()]))
    with engine.begin() as connection:
        config = migrate.alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0038")
    of_part = "repository_id, digest, platform, spec_digest, policy_version, image_spec_allowed, attempts"
    of_run = "attempt, name, command, reason, oom_killed, seconds, log_truncated, observations, finished_at"
    execute(
        empty_database_url,
        "INSERT INTO repositories (id, name, visibility, gate, trial_on_push, image_spec_allowed,"
        " policy_version, created_at) VALUES (1, 'a', 'private', 'warn', true, false, 1, 1)",
        *(
            f"INSERT INTO parts (id, state, run_after, reason, created_at, {of_part})"
            f" VALUES ('{part}', 'done', 1, '', 1, 1, 'd', '{part}', 's', 1, false, 1)"
            for part in ("told", "silent")
        ),
        *(
            f"INSERT INTO runs (part_id, log, {of_run})"
            f" VALUES ('told', '{log}', 1, 'n', '[]', 'exited', false, 1, false, '[]', 1)"
            for log in ("\u00e9", "abc")
        ),
    )
    assert migrate.upgrade(empty_database_url).before == "0038"
    with engine.connect() as connection:
        found = connection.execute(text("SELECT id, log_bytes FROM parts ORDER BY id")).all()
    engine.dispose()
    assert found == [("silent", None), ("told", 5)]


def test_vulnerabilities_that_were_found_already_are_found_by_their_names(empty_database_url: str) -> None:
    parsed = make_url(empty_database_url)
    engine = create_engine(parsed.set(drivername=DRIVERS[parsed.get_backend_name()]))
    with engine.begin() as connection:
        config = migrate.alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0065")
    columns = "component_id, advisory, aliases, kind, severity, summary, state, kev, first_seen_at"
    found = (("CVE-1", '["GHSA-1", "\\u00e4"]'), ("CVE-2", "[]"), ("GHSA-3", '["DSA-1"]'))
    execute(
        empty_database_url,
        *(
            f"INSERT INTO components (id, key, kind, ecosystem, name, version, source, source_version)"
            f" VALUES ({number}, 'k{number}', 'npm', 'npm', 'n', '{number}', 'n', '{number}')"
            for number in (1, 2)
        ),
        *(
            f"INSERT INTO component_findings ({columns})"
            f" VALUES ({number}, '{advisory}', '{aliases}', 'vulnerability', 'low', '', 'affected', false, 1)"
            for number in (1, 2)
            for advisory, aliases in found
        ),
    )
    assert migrate.upgrade(empty_database_url).before == "0065"
    with engine.connect() as connection:
        names = connection.execute(text("SELECT name, advisory FROM advisory_names ORDER BY name")).all()
    engine.dispose()
    assert names == [("DSA-1", "GHSA-3"), ("GHSA-1", "CVE-1"), ("\u00e4", "CVE-1")]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "migrations" / "versions").glob("*.py")), ids=lambda p: p.stem
)
def test_a_migration_that_takes_something_away_raises_the_floor(path: Path) -> None:
    script = path.read_text()
    # A check that is made again at once only lets more words in: the version before writes its own.
    for name in re.findall(r"create_check_constraint\(op.f\('(\w+)'\)", script):
        script = script.replace(f"drop_constraint(op.f('{name}'), type_='check')", "")
    # What a trigger will do takes nothing away now.
    script = re.sub(r"AS \$\$.*?\$\$", "", script, flags=re.DOTALL)
    takes = re.search(r"drop_(table|column|constraint)|alter_column|rename_table|DROP|DELETE FROM", script)
    added = re.findall(r"add_column\((.*)\)", script)
    needs = [column for column in added if "nullable=False" in column and "server_default" not in column]
    assert (takes is None and needs == []) or "UPDATE schema_floor SET oldest" in script


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # of the tests, not of a server
def test_serve_says_so_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path / 'seatrial.db'}"
    migrate.upgrade(url)
    execute(url, "UPDATE alembic_version SET version_num = '9999'", "UPDATE schema_floor SET oldest = '9999'")
    umask = os.umask(0o077)
    os.umask(umask)
    try:
        assert run(["serve", "--data", str(tmp_path), "--listen", "127.0.0.1:0"]) == 2
    finally:
        os.umask(umask)
    assert "schema 9999" in capsys.readouterr().err
    assert not (tmp_path / "admin.token").exists()


def test_sqlite_is_copied_aside_before_it_changes(
    tmp_path: Path, add_migration: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "seatrial.db"
    url = f"sqlite:///{path}"
    migrate.upgrade(url)
    execute(url, "INSERT INTO events (kind, actor, data, at) VALUES ('k', 'a', '{}', 1)")
    add_migration("op.drop_table('events')")
    done = upgrade_and_tell(Settings(data=tmp_path))
    assert (done.before, done.after) == (HEAD, "next")
    assert done.backup is not None
    assert f"The way back: stop, put\n  {done.backup}\nin its place" in capsys.readouterr().err
    with sqlite3.connect(done.backup) as copy:
        assert copy.execute("SELECT count(*) FROM events").fetchone() == (1,)
        assert copy.execute("SELECT version_num FROM alembic_version").fetchone() == (HEAD,)
    copy.close()
    # The way back: the copy in its place, and the old version starts.
    add_migration("")
    path.write_bytes(done.backup.read_bytes())
    assert migrate.upgrade(url).before == HEAD


def test_a_migration_that_fails_leaves_the_old_schema(
    empty_database_url: str, add_migration: Callable[[str], None]
) -> None:
    migrate.upgrade(empty_database_url)
    add_migration(
        "op.create_table('half', sa.Column('id', sa.Integer()))\n    raise RuntimeError('no power')"
    )
    with pytest.raises(RuntimeError, match="no power"):
        migrate.upgrade(empty_database_url)
    add_migration("")
    assert migrate.upgrade(empty_database_url).before == HEAD
    parsed = make_url(empty_database_url)
    engine = create_engine(parsed.set(drivername=DRIVERS[parsed.get_backend_name()]))
    with engine.connect() as connection:
        assert not inspect(connection).has_table("half")
    engine.dispose()


def test_processes_that_upgrade_at_once(empty_database_url: str) -> None:
    code = "import sys; from registry.db.migrate import upgrade; print(upgrade(sys.argv[1]).before)"
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code, empty_database_url],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    ended = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, ended
    assert sorted(out.strip() for out, _ in ended) == [HEAD, HEAD, HEAD, "None"]


def test_nobody_waits_behind_an_upgrade_that_waits(
    make_postgres_url: Callable[[], str],
    add_migration: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A backup reads every table for hours: the upgrade steps back, readers pass; in the end it is said."""
    url = make_postgres_url()
    monkeypatch.setattr(migrate, "_LOCK_MILLISECONDS", 200)
    monkeypatch.setattr(migrate, "_LOCK_PAUSE_SECONDS", 0.2)
    add_migration("op.add_column('events', sa.Column('more', sa.Integer()))")
    with psycopg.connect(url) as backup, psycopg.connect(url, autocommit=True) as reader:
        backup.execute("SELECT count(*) FROM events")
        with ThreadPoolExecutor(1) as pool:
            upgrading = pool.submit(migrate.upgrade, url)
            for _ in range(20):
                reader.execute("SET statement_timeout = '10s'")
                reader.execute("SELECT count(*) FROM events")
                time.sleep(0.05)
            assert not upgrading.done()
            backup.rollback()
            assert upgrading.result(60).after == "next"
    monkeypatch.setattr(migrate, "_LOCK_TRIES", 1)
    execute(url, "ALTER TABLE events DROP COLUMN more", f"UPDATE alembic_version SET version_num = '{HEAD}'")
    with psycopg.connect(url) as backup:
        backup.execute("SELECT count(*) FROM events")
        with pytest.raises(ConflictError, match="a long transaction holds a table"):
            migrate.upgrade(url)
    assert migrate.look(url).before == HEAD


@pytest.fixture
def add_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """The code as a later version would be: the scripts copied, with one more revision that does ``body``."""
    folder = tmp_path / "code"
    scripts = folder / "registry" / "_migrations"
    (scripts / "versions").mkdir(parents=True)
    for path in (ROOT / "migrations").rglob("*"):
        if path.suffix in (".py", ".mako"):
            (scripts / path.relative_to(ROOT / "migrations")).write_text(path.read_text())

    def add(body: str) -> None:
        more = scripts / "versions" / "next.py"
        if body:
            more.write_text(
                "import sqlalchemy as sa\nfrom alembic import op\n\n"
                f"revision = 'next'\ndown_revision = '{HEAD}'\n\n\n"
                f"def upgrade() -> None:\n    {body}\n"
            )
        else:
            more.unlink()
        monkeypatch.setattr(migrate, "__file__", str(folder / "registry" / "db" / "migrate.py"))

    return add
