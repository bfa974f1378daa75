"""``/api/v1/workers``: who runs the images."""

from __future__ import annotations

from registry.auth import workers as use
from registry.errors import NotFoundError
from registry.http.api.fields import AccountName
from registry.http.api.models import Page, PageQuery
from registry.http.api.routes import Call, Route


async def list_workers(call: Call, query: PageQuery) -> Page[use.Worker]:
    """All workers, by name."""
    found = await use.list_workers(
        call.services.database, actor=call.actor, limit=query.limit + 1, after=query.cursor
    )
    return query.page(found, key=lambda worker: worker.name)


async def drain_worker(call: Call, name: AccountName) -> None:
    """Give a worker no more jobs."""
    await use.set_drained(call.services.database, actor=call.actor, name=name, drained=True)


async def undrain_worker(call: Call, name: AccountName) -> None:
    """Give a worker jobs again."""
    await use.set_drained(call.services.database, actor=call.actor, name=name, drained=False)


async def revoke_worker(call: Call, name: AccountName) -> None:
    """Let a worker and all its tokens open nothing from now on."""
    await use.revoke_worker(call.services.database, actor=call.actor, name=name)


ROUTES = (
    Route("GET", "/workers", "admin", list_workers),
    Route("PUT", "/workers/{name}/drain", "admin", drain_worker, errors=(NotFoundError,)),
    Route("DELETE", "/workers/{name}/drain", "admin", undrain_worker, errors=(NotFoundError,)),
    Route("POST", "/workers/{name}/revoke", "admin", revoke_worker, errors=(NotFoundError,)),
)
