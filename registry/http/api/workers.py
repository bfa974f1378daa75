"""``/api/v1/workers``: who runs the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, cast

from pydantic import Field

from registry.auth import bindings
from registry.auth import workers as use
from registry.errors import NotFoundError
from registry.http.api.fields import AccountName
from registry.http.api.models import Body, Page, PageQuery
from registry.http.api.routes import Call, Route
from registry.oci.conditions import Conditions
from registry.trials.room import find_shortages


async def list_workers(call: Call, query: PageQuery) -> Page[use.Worker]:
    """All workers, by name."""
    found = await use.list_workers(
        call.services.database, actor=call.actor, limit=query.limit + 1, after=query.cursor
    )
    return query.page(await _with_room(call, found), key=lambda worker: worker.name)


class Binding(Body):
    """What to bind a worker to; null takes a bound away, and what is left out stays as it is."""

    namespaces: tuple[str, ...] | None = Field(
        default=None, description="Namespaces that it tries, with all below them; `*` is any text."
    )
    labels: tuple[str, ...] | None = Field(
        default=None, description="Labels that it has, which repositories may demand."
    )
    networks: tuple[str, ...] | None = Field(
        default=None, description="Networks that it may come from, as in `10.0.0.0/8`."
    )
    slots: int | None = Field(
        default=None,
        description="How many leases it may hold at once.",
        json_schema_extra={"minimum": 1, "maximum": bindings.MAX_SLOTS},
    )


async def show_worker(call: Call, name: AccountName) -> use.Worker:
    """One worker: what it is bound to, and how many leases it holds."""
    worker = await use.show_worker(call.services.database, actor=call.actor, name=name)
    return (await _with_room(call, [worker]))[0]


async def bind_worker(call: Call, name: AccountName, body: Binding, conditions: Conditions) -> use.Worker:
    """Bind a worker to namespaces, labels, networks or a number of leases."""
    given = body.model_dump(exclude_unset=True)
    unbound = frozenset(
        cast("Literal['namespaces', 'labels', 'networks', 'slots']", field)
        for field, value in given.items()
        if value is None
    )
    wanted = bindings.BindingChange(**given, unbound=unbound)
    worker = await bindings.bind_worker(
        call.services.database, actor=call.actor, name=name, wanted=wanted, conditions=conditions
    )
    return (await _with_room(call, [worker]))[0]


async def drain_worker(call: Call, name: AccountName) -> None:
    """Give a worker no more jobs."""
    await use.set_drained(call.services.database, actor=call.actor, name=name, drained=True)


async def undrain_worker(call: Call, name: AccountName) -> None:
    """Give a worker jobs again."""
    await use.set_drained(call.services.database, actor=call.actor, name=name, drained=False)


async def revoke_worker(call: Call, name: AccountName) -> None:
    """Let a worker and all its tokens open nothing from now on."""
    await use.revoke_worker(call.services.database, actor=call.actor, name=name)


async def _with_room(call: Call, found: Sequence[use.Worker]) -> list[use.Worker]:
    """The workers, with what waits for room on the disk of each."""
    async with call.services.database.read() as connection:
        shortages = await find_shortages(connection)
    needed: dict[str, list[int]] = {}
    for shortage in shortages:
        for disk in shortage.disks:
            needed.setdefault(disk.worker, []).append(shortage.needed_bytes)
    return [
        replace(worker, waiting_parts=len(needed[worker.name]), needed_bytes=max(needed[worker.name]))
        if worker.name in needed
        else worker
        for worker in found
    ]


ROUTES = (
    Route("GET", "/workers", "admin", list_workers),
    Route("GET", "/workers/{name}", "admin", show_worker, errors=(NotFoundError,)),
    Route("PATCH", "/workers/{name}", "admin", bind_worker, errors=(NotFoundError,)),
    Route("PUT", "/workers/{name}/drain", "admin", drain_worker, errors=(NotFoundError,)),
    Route("DELETE", "/workers/{name}/drain", "admin", undrain_worker, errors=(NotFoundError,)),
    Route("POST", "/workers/{name}/revoke", "admin", revoke_worker, errors=(NotFoundError,)),
)
