"""``/api/v1/workers``: who runs the images."""

from __future__ import annotations

from registry.auth import workers as use
from registry.http.api.routes import Call, Route, page, shown_time


async def list_workers(call: Call) -> object:
    """All workers, by name."""
    asked = page(call.query("limit", "cursor"))
    found = await use.list_workers(
        call.services.database, actor=call.actor, limit=asked.limit + 1, after=asked.after
    )
    return asked.answer(found, key=lambda worker: worker.name, show=_shown)


async def drain_worker(call: Call) -> object:
    """Give a worker no more jobs."""
    await use.set_drained(call.services.database, actor=call.actor, name=call.path("name"), drained=True)
    return None


async def undrain_worker(call: Call) -> object:
    """Give a worker jobs again."""
    await use.set_drained(call.services.database, actor=call.actor, name=call.path("name"), drained=False)
    return None


async def revoke_worker(call: Call) -> object:
    """Let a worker and all its tokens open nothing from now on."""
    await use.revoke_worker(call.services.database, actor=call.actor, name=call.path("name"))
    return None


def _shown(worker: use.Worker) -> dict[str, object]:
    return {
        "name": worker.name,
        "platforms": list(worker.platforms),
        "address": worker.address,
        "last_seen_at": shown_time(worker.last_seen_at),
        "drain_at": shown_time(worker.drain_at),
        "revoked_at": shown_time(worker.revoked_at),
    }


ROUTES = (
    Route("GET", "/workers", "admin", list_workers),
    Route("PUT", "/workers/{name}/drain", "admin", drain_worker),
    Route("DELETE", "/workers/{name}/drain", "admin", undrain_worker),
    Route("POST", "/workers/{name}/revoke", "admin", revoke_worker),
)
