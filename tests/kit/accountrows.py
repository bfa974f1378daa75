"""Registries with very many users and tokens, made in the database: by the API they would take hours.

Users are called ``user00000000`` and on; token ``n`` belongs to user ``n`` modulo their number. Of five one
is revoked, of three one has no end, and the ends of the others lie around now, an hour apart; of two one was
never used, the other ``n`` minutes ago. Of ten one replaces the one before, and one was made with it.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}
_NUMBERS = {
    "sqlite": "WITH RECURSIVE numbers(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i < {last})",
    "postgresql": "WITH numbers(i) AS (SELECT generate_series(0, {last}))",
}
_PADDED = {"sqlite": "printf('%08d', {})", "postgresql": "lpad(CAST({} AS text), 8, '0')"}
_NOW = {
    "sqlite": "(CAST(strftime('%s', 'now') AS INTEGER) * 1000000)",
    "postgresql": "(CAST(EXTRACT(EPOCH FROM now()) AS BIGINT) * 1000000)",
}
_MINUTE = 60_000_000


def fill_accounts(database_url: str, *, users: int, tokens: int) -> None:
    """Add so many to the database of a registry that has started, and let it learn how many there are."""
    url = make_url(database_url)
    kind = url.get_backend_name()
    engine = create_engine(url.set(drivername=_DRIVERS[kind]))
    with engine.begin() as connection:
        for statement in _statements(kind, users, tokens):
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql("ANALYZE")
    engine.dispose()


def _statements(kind: str, users: int, tokens: int) -> Iterator[str]:
    padded, before, now = _PADDED[kind].format("i"), _PADDED[kind].format("i - 1"), _NOW[kind]
    yield f"""{_NUMBERS[kind].format(last=users - 1)}
        INSERT INTO accounts (name, kind, is_admin, is_auditor, created_at)
        SELECT 'user' || {padded}, 'user', false, false, {now} FROM numbers"""
    number = f"(SELECT min(id) FROM accounts WHERE name = 'user00000000') + i - i / {users} * {users}"
    ends = f"{now} + (CAST(i AS BIGINT) - {tokens // 2}) * {60 * _MINUTE}"
    yield f"""{_NUMBERS[kind].format(last=tokens - 1)}
        INSERT INTO tokens (id, account_id, name, secret_hash, scopes, created_at, expires_at, revoked_at,
          last_used_at, replaces, made_by)
        SELECT '0' || {padded}, {number}, 'many', 'hash' || {padded}, '["repository:a:pull"]',
          {now} - ({tokens} - CAST(i AS BIGINT)) * {_MINUTE},
          CASE WHEN i - i / 3 * 3 = 0 THEN NULL ELSE {ends} END,
          CASE WHEN i - i / 5 * 5 = 0 THEN {now} ELSE NULL END,
          CASE WHEN i - i / 2 * 2 = 0 THEN NULL ELSE {now} - CAST(i AS BIGINT) * {_MINUTE} END,
          CASE WHEN i - i / 10 * 10 = 9 THEN '0' || {before} ELSE NULL END,
          CASE WHEN i - i / 10 * 10 = 8 THEN '0' || {before} ELSE NULL END
        FROM numbers"""
