"""How the database reads: the statements of a block, and whether each is a range of an index."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from registry.db.engine import Database


@dataclass(frozen=True, slots=True)
class Statement:
    """One that was sent to the database."""

    text: str
    parameters: Any


def is_background(text: str) -> bool:
    """Whether a statement is of what a registry does by itself meanwhile: events get their positions, what is
    due is looked for, what is old goes, and verdicts are signed. It begins transactions of its own."""
    own = ("event_feed", "webhooks", "deliveries", "events.position IS NULL", "events SET position")
    own += ("tokens.expiry_told_at", "workers.disk_most_bytes")
    own += ("keys.ring", "attestations.kid", "attestations SET", "AS of_same", "AS later")
    own += ("FROM live_logs", "parts.finished_at <", "promotions.expires_at <=")
    own += ("attestation_marks", "WHERE (parts.finished_at", "WHERE (trials.finished_at")
    return text.startswith("BEGIN") or any(name in text for name in own)


@contextmanager
def recorded(*tables: str, background: bool = False) -> Iterator[list[Statement]]:
    """The statements that read any of these tables in an order while the block runs; those of what a registry
    does by itself only with ``background``."""
    seen: list[Statement] = []

    def remember(_connection: Any, _cursor: Any, text: str, parameters: Any, *_: Any) -> None:
        reads = any(f"FROM {table}" in text for table in tables)
        if not reads or not text.startswith("SELECT") or "ORDER BY" not in text:
            return
        if background or not is_background(text):
            seen.append(Statement(text, parameters))

    event.listen(Engine, "before_cursor_execute", remember)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", remember)


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
        assert kinds <= {"Limit", "Index Scan", "Index Only Scan", "Nested Loop"}, (statement.text, plan)
        assert all("Index Cond" in node for node in nodes if "Index" in node["Node Type"]), plan


def walk(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node of a plan."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from walk(below)


@contextmanager
def sent() -> Iterator[list[Statement]]:
    """Every statement that is sent while the block runs."""
    seen: list[Statement] = []

    def remember(_connection: Any, _cursor: Any, text: str, parameters: Any, *_: Any) -> None:
        seen.append(Statement(text, parameters))

    event.listen(Engine, "before_cursor_execute", remember)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", remember)


async def plan_of(database: Database, statement: Statement) -> str:
    """How the database does a statement, in its own words, a step on each line."""
    explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
    async with database.read() as connection:
        rows = (await connection.exec_driver_sql(explain + statement.text, statement.parameters)).all()
    return "".join(f"{row[-1]}\n" for row in rows)
