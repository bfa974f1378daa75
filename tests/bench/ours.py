"""Our registry as the benches measure it: private repositories, the gate on, no trials of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.bench.load import SERVER_CORE, Target
from tests.bench.processes import Service, service
from tests.bench.pushing import push_image

PRIVATE = "bench/app"
PUBLIC = "bench/open"
TAG = "latest"


@dataclass(frozen=True, slots=True)
class Ours:
    """``pusher`` is the administrator by password. What it pushed stays refused until :func:`admit`."""

    service: Service
    pusher: Target
    database_url: str | None

    def puller(self, name: str, *, headers: dict[str, str] | None = None) -> Target:
        """Whoever ``headers`` say: a fresh Bearer token for the private repository, if nothing is said."""
        headers = self.service.pull_token(PRIVATE) if headers is None else headers
        tls = self.service.url.startswith("https:")
        return Target(name, self.service.port, (self.service.process.pid,), headers, tls)

    def execute(self, *statements: str) -> None:
        """Run SQL in the database, beside the server."""
        if self.database_url is None:
            with closing(sqlite3.connect(self.service.data / "seatrial.db", timeout=20)) as connection:
                for statement in statements:
                    connection.execute(statement)
                connection.commit()
            return
        with psycopg.connect(self.database_url) as connection:
            for statement in statements:
                connection.execute(statement)


@contextmanager
def registry(
    data: Path,
    *,
    logs: bool = False,
    database_url: str | None = None,
    core: int | None = SERVER_CORE,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Ours]:
    """A running registry without an image."""
    given = {"gate": "enforce", "trial_on_push": "false", "access_log": str(logs).lower()}
    given |= settings or {}
    if database_url is not None:
        given["database_url"] = database_url
    with service("serve", data, settings=given, core=core) as running:
        pusher = Target("ours", running.port, (running.process.pid,), running.basic)
        yield Ours(running, pusher, database_url)


def push_admitted(ours: Ours) -> bytes:
    """Push the small image to a private and a public repository, as if a trial had passed; the manifest."""
    push_image(ours.pusher, PUBLIC, TAG)
    manifest = push_image(ours.pusher, PRIVATE, TAG)
    public = PUBLIC.replace("/", "%2F")
    ours.service.request(f"/api/v1/repositories/{public}", method="PATCH", body={"visibility": "public"})
    # As a verdict does it: the state, and the epoch that tells caches to look.
    ours.execute("UPDATE manifests SET state = 'pass'", "UPDATE epochs SET gate = gate + 1")
    return manifest


def fill(ours: Ours, *, tags: int, repositories: int) -> None:
    """Rows without a push: so many copies of the private repository's row, ``bulk/r0000000`` and so on, and
    of its tag's, ``t0000000`` and so on."""
    columns = "visibility, gate, trial_on_push, image_spec_allowed, policy_version, created_at"
    ours.execute(
        f"INSERT INTO repositories (name, {columns}) SELECT {_name(ours, 'bulk/r')}, {columns} "
        f"FROM {_numbers(ours, repositories)} CROSS JOIN repositories WHERE name = '{PRIVATE}'",
        "INSERT INTO tags (repository_id, name, manifest_id, updated_at, updated_by) "
        f"SELECT repository_id, {_name(ours, 't')}, manifest_id, updated_at, updated_by "
        f"FROM {_numbers(ours, tags)} CROSS JOIN tags WHERE tags.name = '{TAG}' "
        f"AND repository_id = (SELECT id FROM repositories WHERE name = '{PRIVATE}')",
        "ANALYZE",
    )


def _numbers(ours: Ours, count: int) -> str:
    if ours.database_url is not None:
        return f"generate_series(0, {count - 1}) AS r(i)"
    counted = f"SELECT 0 UNION ALL SELECT i + 1 FROM r WHERE i < {count - 1}"
    return f"(WITH RECURSIVE r(i) AS ({counted}) SELECT i FROM r WHERE i < {count})"


def _name(ours: Ours, prefix: str) -> str:
    return (
        f"printf('{prefix}%07d', i)" if ours.database_url is None else f"'{prefix}' || lpad(i::text, 7, '0')"
    )
