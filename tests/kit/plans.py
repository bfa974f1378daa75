"""How the database reads: the statements of a block, and whether each is a range of an index."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Executable, event
from sqlalchemy.engine import Engine

from registry.db.engine import Database
from registry.db.oneread import OneRead
from tests.kit import later
from tests.kit.sources import ROOT


@dataclass(frozen=True, slots=True)
class Statement:
    """One that was sent to the database."""

    text: str
    parameters: Any


_OWN = (str(ROOT / "registry") + "/", later.__file__)
_read = OneRead.execute


async def _read_marked(self: OneRead, statement: Executable, *rest: Any) -> Any:
    if _is_own():
        statement = statement.execution_options(own=True)
    return await _read(self, statement, *rest)


# It sends what it reads in a thread, which knows nothing of the task that asked.
OneRead.execute = _read_marked  # type: ignore[method-assign]


def _is_own() -> bool:
    """Whether this task began in the registry's own code, or in what has it begin later. One that answers a
    request began in aiohttp's, one of a test in the test's."""
    task = asyncio.current_task()
    code = None if task is None else getattr(task.get_coro(), "cr_code", None)
    return code is not None and code.co_filename.startswith(_OWN)


@contextmanager
def listening(remember: Callable[[str, Any], None]) -> Iterator[None]:
    """Tell of each statement that is sent while the block runs, with its parameters, but for those of what a
    registry does by itself, in tasks of its own, and for what begins a transaction."""

    def hear(_connection: Any, _cursor: Any, text: str, parameters: Any, context: Any, _many: bool) -> None:
        own = context is not None and "own" in context.execution_options
        with suppress(RuntimeError):  # a thread without a loop
            own = own or _is_own()
        if not own and not text.startswith("BEGIN"):
            remember(text, parameters)

    event.listen(Engine, "before_cursor_execute", hear)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", hear)


@contextmanager
def recorded(*tables: str) -> Iterator[list[Statement]]:
    """The statements that read any of these tables in an order while the block runs, as :func:`listening`
    tells of them."""
    seen: list[Statement] = []

    def remember(text: str, parameters: Any) -> None:
        reads = any(f"FROM {table}" in text for table in tables)
        if reads and text.startswith("SELECT") and "ORDER BY" in text:
            seen.append(Statement(text, parameters))

    with listening(remember):
        yield seen


async def require_ranges(database: Database, statements: list[Statement]) -> None:
    """Ask the database how it reads each of them."""
    assert statements
    explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN (FORMAT JSON) "
    for statement in statements:
        async with database.read() as connection:
            rows = (await connection.exec_driver_sql(explain + statement.text, statement.parameters)).all()
        if database.is_sqlite:
            # What a subquery does stands in the steps below its name.
            steps = [str(row[-1]) for row in rows if not str(row[-1]).startswith("CORRELATED SCALAR")]
            bad = [step for step in steps if not step.startswith("SEARCH") or " USING " not in step]
            assert not bad, (statement.text, steps)
            continue
        found = rows[0][0]
        plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
        nodes = list(walk(plan))
        kinds = {node["Node Type"] for node in nodes}
        # Memoize keeps what an index gave, for those who look it up again.
        ranges = {"Limit", "Index Scan", "Index Only Scan", "Nested Loop", "Memoize"}
        assert kinds <= ranges, (statement.text, plan)
        assert all("Index Cond" in node for node in nodes if "Index" in node["Node Type"]), plan


def walk(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node of a plan."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from walk(below)


@contextmanager
def sent() -> Iterator[list[Statement]]:
    """The statements that are sent while the block runs, as :func:`listening` tells of them."""
    seen: list[Statement] = []
    with listening(lambda text, parameters: seen.append(Statement(text, parameters))):
        yield seen


async def plan_of(database: Database, statement: Statement) -> str:
    """How the database does a statement, in its own words, a step on each line."""
    explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
    async with database.read() as connection:
        rows = (await connection.exec_driver_sql(explain + statement.text, statement.parameters)).all()
    return "".join(f"{row[-1]}\n" for row in rows)
