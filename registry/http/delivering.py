"""The courier of this process: begins and ends with it, and tells the metrics what it did."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from registry.events.deliverykeeping import read_backlog
from registry.http.metrics import METRICS
from registry.http.services import SERVICES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web
    from structlog.typing import FilteringBoundLogger

log: FilteringBoundLogger = structlog.get_logger("seatrial.webhooks")
LOOK_SECONDS = 30.0


async def delivering(app: web.Application) -> AsyncIterator[None]:
    """Deliver while the application runs."""
    tasks = [
        asyncio.create_task(app[SERVICES].courier.run()),
        asyncio.create_task(_look_after(app)),
    ]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def _look_after(app: web.Application) -> None:
    services, metrics = app[SERVICES], app[METRICS]
    while True:
        for outcome, count in services.courier.take_attempts().items():
            metrics.webhook_attempts.labels(outcome).inc(count)
        try:
            metrics.delivers(await read_backlog(services.database))
        except (SQLAlchemyError, OSError) as error:
            log.warning("deliveries could not be looked after", reason=repr(error))
        except Exception:  # a loop: it must look the next time
            log.exception("deliveries could not be looked after")
        await asyncio.sleep(LOOK_SECONDS)
