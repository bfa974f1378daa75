"""Registries with very many rows, made in the database: pushed one by one they would take hours.

    fill(url, Rows(repositories=1_000_000, tags=1_000_000, referrers=1_000_000))

makes private repositories ``many/00000000`` and on, of which every thousandth is called ``few/…``, and a
repository ``long/lists`` with tags ``t00000000`` and on and referrers of :data:`SUBJECT`.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from tests.kit.images import OCI_INDEX

REPOSITORY = "long/lists"
SUBJECT = "sha256:" + hashlib.sha256(b"subject").hexdigest()
FEW = 1000
"""Of so many repositories, and of so many referrers, one is of the rare kind."""
RARE_TYPE, COMMON_TYPE = "application/x.rare", "application/x.common"
DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}
_NUMBERS = {
    "sqlite": "WITH RECURSIVE numbers(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i < {last})",
    "postgresql": "WITH numbers(i) AS (SELECT generate_series(0, {last}))",
}
_PADDED = {"sqlite": "printf('%08d', i)", "postgresql": "lpad(CAST(i AS text), 8, '0')"}
_DIGEST = {
    "sqlite": "'sha256:' || printf('%064x', i)",
    "postgresql": "'sha256:' || lpad(to_hex(i), 64, '0')",
}
_NUMBERED = {
    "sqlite": "printf('%03d%d', length({0}), {0})",
    "postgresql": "lpad(CAST(length(CAST({0} AS text)) AS text), 3, '0') || CAST({0} AS text)",
}
"""A number as a part of a version's key."""
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True)
class Rows:
    """How many of each to make, at least one of each."""

    repositories: int = 1
    tags: int = 1
    referrers: int = 1


def fill(database_url: str, rows: Rows) -> None:
    """Add these rows to the database of a registry that has none, and let it learn how many there are."""
    url = make_url(database_url)
    engine = create_engine(url.set(drivername=DRIVERS[url.get_backend_name()]))
    with engine.begin() as connection:
        for statement in _statements(url.get_backend_name(), rows):
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql("ANALYZE")
    engine.dispose()


def fill_trials(database_url: str, repository: str, count: int) -> None:
    """Add trials of a hundred images to a repository that there is, a second apart, the last of them now; one
    of :data:`FEW` failed."""
    url = make_url(database_url)
    kind = url.get_backend_name()
    engine = create_engine(url.set(drivername=DRIVERS[kind]))
    image = _DIGEST[kind].replace("i)", "i - i / 100 * 100)")
    at = f"{time.time_ns() // 1000} - ({count} - i) * CAST(1000000 AS bigint)"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"""{_NUMBERS[kind].format(last=count - 1)}
            INSERT INTO trials (id, repository_id, digest, spec_digest, policy_version, cause, state, verdict,
                reason, created_by, created_at, finished_at)
            SELECT r.name || {_PADDED[kind]}, r.id, {image}, 'image', 1, 'push', 'done',
                CASE WHEN i - i / {FEW} * {FEW} = 0 THEN 'fail' ELSE 'pass' END, '', '', {at}, {at}
            FROM numbers, repositories r WHERE r.name = '{repository}'""")
        connection.exec_driver_sql("ANALYZE")
    engine.dispose()


def _statements(kind: str, rows: Rows) -> Iterator[str]:
    padded, digest = _PADDED[kind], _DIGEST[kind]
    is_rare = f"i - i / {FEW} * {FEW} = 0"  # a percent sign would be psycopg's
    values = "'private', 'off', false, false, 1, 0"
    columns = "name, visibility, gate, trial_on_push, image_spec_allowed, policy_version, created_at"
    this = f"repositories r WHERE r.name = '{REPOSITORY}'"
    yield f"INSERT INTO repositories ({columns}) VALUES ('{REPOSITORY}', {values})"
    yield f"""{_NUMBERS[kind].format(last=rows.repositories - 1)}
        INSERT INTO repositories ({columns})
        SELECT CASE WHEN {is_rare} THEN 'few/' ELSE 'many/' END || {padded}, {values} FROM numbers"""
    numbers = _NUMBERS[kind].format(last=rows.referrers - 1)
    yield f"{numbers} INSERT INTO manifest_contents (digest, raw) SELECT {digest}, '' FROM numbers"
    yield f"""{numbers}
        INSERT INTO manifests (repository_id, digest, media_type, size, artifact_type, annotations,
            subject_digest, runnable, state, state_reason, state_at, pushed_by, pushed_at)
        SELECT r.id, {digest}, '{_MANIFEST}', 700,
            CASE WHEN {is_rare} THEN '{RARE_TYPE}' ELSE '{COMMON_TYPE}' END, '{{"k":"v"}}',
            '{SUBJECT}', false, 'not-applicable', '', 0, '', 0
        FROM numbers, {this}"""
    yield f"""{_NUMBERS[kind].format(last=rows.tags - 1)}
        INSERT INTO tags (repository_id, name, manifest_id, updated_at, updated_by)
        SELECT r.id, 't' || {padded}, (SELECT min(id) FROM manifests), 0, '' FROM numbers, {this}"""


@dataclass(frozen=True, slots=True)
class Tagged:
    """So many tags of a repository, as versions: four for each index, with what these list. Every hundredth
    index is tagged no more, and has a referrer."""

    repository: str
    tags: int


def fill_tagged(database_url: str, rows: Tagged) -> None:
    """Add a repository with as many manifests as tags, three times as many edges, and a history, all of it
    made over the last thousand days; some of it was pulled lately."""
    url = make_url(database_url)
    engine = create_engine(url.set(drivername=DRIVERS[url.get_backend_name()]))
    with engine.begin() as connection:
        for statement in _tagged(url.get_backend_name(), rows):
            connection.exec_driver_sql(statement)
    engine.dispose()


def _tagged(kind: str, rows: Tagged) -> Iterator[str]:
    count, indexes = rows.tags, rows.tags // 4
    digest, numbers = _DIGEST[kind], _NUMBERS[kind].format(last=count - 1)
    day = 86_400_000_000
    now = time.time_ns() // 1000
    # Older ones first; what is pushed last is of today.
    at = f"{now} - ({count} - i) * CAST({1000 * day // count} AS bigint)"
    here = f"repositories r WHERE r.name = '{rows.repository}'"
    is_index = f"i < {indexes}"
    number = _NUMBERED[kind]
    key = f"'0011' || {number.format('(i / 1000)')} || {number.format('(i - i / 1000 * 1000)')} || '~'"
    tag = "'1.' || CAST(i / 1000 AS text) || '.' || CAST(i - i / 1000 * 1000 AS text)"
    index = f"i - i / {indexes} * {indexes}"
    of = _DIGEST[kind].replace("i)", f"{index})")
    yield (
        "INSERT INTO repositories (name, visibility, gate, trial_on_push, image_spec_allowed, policy_version,"
        f" created_at) VALUES ('{rows.repository}', 'private', 'off', false, false, 1, 0)"
    )
    # Those of another one may be the same.
    contents = "INSERT INTO manifest_contents (digest, raw)"
    yield f"{numbers} {contents} SELECT {digest}, '' FROM numbers WHERE i >= 0 ON CONFLICT DO NOTHING"
    subject = _DIGEST[kind].replace("i)", f"{count} - 1 - i)")
    yield f"""{numbers}
        INSERT INTO manifests (repository_id, digest, media_type, size, annotations, artifact_type,
            subject_digest, platform, runnable, state, state_reason, state_at, pushed_by, pushed_at)
        SELECT r.id, {digest}, CASE WHEN {is_index} THEN '{OCI_INDEX}' ELSE '{_MANIFEST}' END, 700, '{{}}',
            'application/x', CASE WHEN i >= {count - indexes // 100} THEN {subject} END,
            CASE WHEN {is_index} THEN NULL WHEN i - i / 3 * 3 = 0 THEN 'linux/amd64' ELSE 'linux/arm64' END,
            {is_index}, 'pass', '', {at}, '', {at}
        FROM numbers, {here}"""
    # Of an index the three that it lists, of all others layers.
    for position in range(3):
        child = _DIGEST[kind].replace("i)", f"{indexes} + i * 3 + {position} - {indexes // 100 * 3})")
        listed = f"i >= {indexes // 100} AND {is_index}"
        media_type = f"'{_MANIFEST}'"
        yield f"""{numbers}
            INSERT INTO edges (manifest_id, position, kind, digest, media_type, size)
            SELECT m.id, {position}, CASE WHEN {listed} THEN 'child' ELSE 'layer' END,
                CASE WHEN {listed} THEN {child} ELSE 'sha256:' || {_PADDED[kind]} END, {media_type}, 700
            FROM numbers, manifests m, {here} AND m.repository_id = r.id AND m.digest = {digest}"""
    tagged = f"{index} >= {indexes // 100}"
    stands = f"CASE WHEN {tagged} THEN {of} ELSE {_DIGEST[kind].replace('i)', f'{indexes} - 1)')} END"
    yield f"""{numbers}
        INSERT INTO tags (repository_id, name, manifest_id, updated_at, updated_by, version_key)
        SELECT r.id, {tag}, m.id, {at}, '', {key}
        FROM numbers, manifests m, {here} AND m.repository_id = r.id
            AND m.digest = {stands}"""
    yield f"""{numbers}
        INSERT INTO tag_history (repository_id, name, action, new_digest, actor, at, over_at)
        SELECT r.id, {tag}, 'push', {of}, '', {at}, CASE WHEN {tagged} THEN NULL ELSE {at} END
        FROM numbers, {here}"""
    pulled = _DIGEST[kind].replace("i)", f"i + {indexes // 2})")
    yield f"""{_NUMBERS[kind].format(last=count // 100)}
        INSERT INTO pull_days (digest, day, repository, actor, count, last_at)
        SELECT {pulled}, {now // day} - 3, '{rows.repository}', 'bob', 1, {now - 3 * day} FROM numbers"""


@dataclass(frozen=True, slots=True)
class Stocked:
    """So many private repositories, ``stock/00000000`` and on, each with so many tags: versions, four for
    each image."""

    repositories: int
    tags: int


def fill_stocked(database_url: str, rows: Stocked) -> None:
    """Add them to the database of a registry."""
    url = make_url(database_url)
    kind = url.get_backend_name()
    engine = create_engine(url.set(drivername=DRIVERS[kind]))
    images, now = rows.tags // 4, time.time_ns() // 1000
    padded, digest = _PADDED[kind], _DIGEST[kind]
    of = re.sub(r"\bi\b", "(i / {each})", padded)
    here = f"repositories r WHERE r.name = 'stock/' || {of}"
    one = f"(i - i / {rows.tags} * {rows.tags})"
    image = _DIGEST[kind].replace("i)", f"i / {rows.tags} * {images} + {one} / 4)")
    number = _NUMBERED[kind].format(one)
    at = f"{now} - CAST(i AS bigint) * 1000000"
    with engine.begin() as connection:
        for statement in (
            f"""{_NUMBERS[kind].format(last=rows.repositories - 1)}
            INSERT INTO repositories (name, visibility, gate, trial_on_push, image_spec_allowed,
                policy_version, created_at)
            SELECT 'stock/' || {padded}, 'private', 'off', false, false, 1, 0 FROM numbers""",
            f"""{_NUMBERS[kind].format(last=rows.repositories * images - 1)}
            INSERT INTO manifest_contents (digest, raw) SELECT {digest}, '' FROM numbers WHERE i >= 0
            ON CONFLICT DO NOTHING""",
            f"""{_NUMBERS[kind].format(last=rows.repositories * images - 1)}
            INSERT INTO manifests (repository_id, digest, media_type, size, annotations, runnable, platform,
                state, state_reason, state_at, pushed_by, pushed_at)
            SELECT r.id, {digest}, '{_MANIFEST}', 700, '{{}}', true, 'linux/amd64', 'pass', '', {at}, '', {at}
            FROM numbers, {here.format(each=images)}""",
            f"""{_NUMBERS[kind].format(last=rows.repositories * images - 1)}
            INSERT INTO edges (manifest_id, position, kind, digest, media_type, size)
            SELECT m.id, 0, 'layer', 'sha256:' || {padded}, '{_MANIFEST}', 700
            FROM numbers, manifests m, {here.format(each=images)} AND m.repository_id = r.id
                AND m.digest = {digest}""",
            f"""{_NUMBERS[kind].format(last=rows.repositories * rows.tags - 1)}
            INSERT INTO tags (repository_id, name, manifest_id, updated_at, updated_by, version_key)
            SELECT r.id, '1.0.' || CAST({one} AS text), m.id, {at}, '', '00110010' || {number} || '~'
            FROM numbers, manifests m, {here.format(each=rows.tags)} AND m.repository_id = r.id
                AND m.digest = {image}""",
        ):
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql("ANALYZE")
    engine.dispose()


@dataclass(frozen=True, slots=True)
class Linked:
    """So many blobs that a repository shows, as :func:`fill_tagged` has made it; and some more that no
    manifest has named for long, and that a collection takes now."""

    repository: str
    blobs: int
    dead: int


def fill_linked(database_url: str, rows: Linked) -> None:
    """Add rows of blobs and of their links; where their bytes would lie says :func:`dead_locator`."""
    url = make_url(database_url)
    kind = url.get_backend_name()
    engine = create_engine(url.set(drivername=DRIVERS[kind]))
    padded, now = _PADDED[kind], time.time_ns() // 1000
    long_ago = now - 100 * 86_400_000_000
    with engine.begin() as connection:
        for digest, locator, count, due in (
            ("sha256:", "feed", rows.blobs, "NULL, false"),
            ("sha256:dead", "dead", rows.dead, f"{long_ago}, true"),
        ):
            numbers = _NUMBERS[kind].format(last=count - 1)
            connection.exec_driver_sql(f"""{numbers}
                INSERT INTO blobs (digest, size, locator, created_at)
                SELECT '{digest}' || {padded}, 16, '{locator}' || '{"0" * 20}' || {padded}, {long_ago}
                FROM numbers""")
            connection.exec_driver_sql(f"""{numbers}
                INSERT INTO blob_links (repository_id, blob_id, created_at, review_at, condemned)
                SELECT r.id, b.id, {long_ago}, {due} FROM numbers, blobs b, repositories r
                WHERE b.digest = '{digest}' || {padded} AND r.name = '{rows.repository}'""")
    engine.dispose()


def dead_locator(number: int) -> str:
    """Where the bytes of a dead blob lie."""
    return f"dead{number:028}"
