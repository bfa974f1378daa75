"""``/api/v1/queue``: what is tried now, and what waits for its turn."""

from __future__ import annotations

from pydantic import Field

from registry.http.api.fields import AccountName
from registry.http.api.models import Query
from registry.http.api.routes import Call, Route
from registry.trials import queuereading as use


class QueueQuery(Query):
    """How many parts, and of which worker."""

    limit: int = Field(default=100, ge=1, le=1000, description="How many parts at most.")
    worker: AccountName | None = Field(default=None, description="Only those that this worker tries.")


async def show_queue(call: Call, query: QueueQuery) -> use.Queue:
    """How many images are tried and wait, since when, and the first of them: each with why it waits."""
    return await use.read_queue(
        call.services.database,
        call.services.settings,
        actor=call.actor,
        worker=query.worker,
        limit=query.limit,
    )


ROUTES = (Route("GET", "/queue", "admin", show_queue),)
