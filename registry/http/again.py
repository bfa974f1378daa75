"""Requests that PostgreSQL broke off to end a deadlock are carried out again."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import structlog
from sqlalchemy.exc import DBAPIError

from registry.http.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web
    from structlog.typing import FilteringBoundLogger

    from registry.db.engine import Database

T = TypeVar("T")
log: FilteringBoundLogger = structlog.get_logger("seatrial.http")
TIMES = 3
_BROKEN_OFF = frozenset({"40P01", "40001"})
"""SQLSTATE: a deadlock, or what could not be told from one."""


async def again_if_broken_off(
    request: web.Request, database: Callable[[], Database], work: Callable[[Database], Awaitable[T]]
) -> T:
    """Do ``work``, which writes by the database it is given, of its own each time; up to :data:`TIMES` times,
    while PostgreSQL breaks its first transaction off. What has committed is never done again."""
    for left in reversed(range(TIMES)):
        own = database()
        try:
            return await work(own)
        except DBAPIError as error:
            state = getattr(error.orig, "sqlstate", None)
            if not left or own.has_committed or state not in _BROKEN_OFF:
                raise
            request.app[METRICS].broken_off.inc()
            log.warning("transaction broken off, and begun again", sqlstate=state, left=left)
    raise AssertionError("the last time has returned or raised")
