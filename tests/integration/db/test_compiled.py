"""Registries of one test process share compiled statements, and nothing that these find."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select, update

from registry.db.engine import Database
from registry.db.events import epochs
from tests.kit.compiled import compile_once


async def numbers(url: str, content: int) -> tuple[int, ...]:
    """What the epochs are in a database, once that of content was given this number."""
    database = Database(url)
    try:
        async with database.write() as connection:
            await connection.execute(update(epochs).values(content=content))
        async with database.read() as connection:
            whole = (await connection.execute(select(epochs.c.content))).scalar_one()
        async with database.read_once() as connection:
            once = (await connection.execute(select(epochs.c.content))).scalar_one()
    finally:
        await database.close()
    return whole, once


async def test_a_statement_is_compiled_once_for_each_kind_of_database(
    tmp_path: Path,
    sqlite_template: Path,
    make_postgres_url: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    urls = []
    for name in ("one", "two"):
        shutil.copyfile(sqlite_template, tmp_path / name)
        urls.append(f"sqlite:///{tmp_path / name}")
    compiled = compile_once(monkeypatch)
    assert await numbers(urls[0], 7) == (7, 7)
    of_sqlite = len(compiled)
    assert of_sqlite > 0
    assert await numbers(urls[1], 8) == (8, 8)
    assert await numbers(urls[0], 9) == (9, 9)
    assert len(compiled) == of_sqlite
    assert await numbers(make_postgres_url(), 10) == (10, 10)
    of_both = len(compiled)
    assert of_both > of_sqlite
    assert await numbers(make_postgres_url(), 11) == (11, 11)
    assert len(compiled) == of_both
