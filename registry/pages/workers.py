"""Who tries images, what they are at, and what waits for them: for administrators."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from registry.http.api import queue, tokens, trials, workers
from registry.http.api.models import PageQuery
from registry.http.api.routes import Call, read_query
from registry.http.authentication import base_url
from registry.pages.once import show_once
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import (
    CursorQuery,
    as_seen,
    field,
    given_body,
    moved,
    read_form,
    require_sure,
    whole_number,
)
from registry.pages.texts import text
from registry.trials.present import SILENT_SECONDS

if TYPE_CHECKING:
    from aiohttp import web

    from registry.auth.workers import Worker
    from registry.pages.serving import Fields

SHOWN = 50
QUEUED_SHOWN = 200
_LISTS = ("namespaces", "labels", "networks")


async def show_workers(call: Call) -> web.Response:
    """All workers, by name, and a form for another one."""
    cursor = read_query(call.request, CursorQuery, leaves_out_empty=True).cursor
    found = await workers.list_workers(call, PageQuery(limit=SHOWN, cursor=cursor))
    return page(
        call.request,
        "workers.html",
        title=text("workers.title"),
        workers=[(worker, standing_of(worker)) for worker in found.items],
        next_path="/workers" + chosen([("cursor", found.next)]) if found.next else None,
        first_path="/workers" if cursor else None,
        lines=Lines(
            api=["GET /api/v1/workers"],
            cli=["seatrial worker list", "seatrial token create --worker NAME", "seatrial worker run"],
        ),
    )


async def create_worker(call: Call) -> web.Response:
    """Make a worker, and show its token this once."""
    wanted = given_body(tokens.NewToken, worker=field(read_form(call), "name"))
    made = await tokens.create_token(call, wanted)
    run = (
        f"seatrial worker run --registry {base_url(call.request)} --token-file worker.token "
        "--state /var/lib/seatrial-worker"
    )
    return show_once(
        call,
        title=text("workers.made", name=made.account),
        once=text("tokens.once"),
        secrets=[("", made.token), (text("workers.run"), run)],
        back="/workers",
    )


async def show_worker(call: Call) -> web.Response:
    """One worker: what it can, what it is bound to, and what it is at."""
    name = call.request.match_info["worker"]
    worker = await workers.show_worker(call, name)
    at = await queue.show_queue(call, queue.QueueQuery(worker=name, limit=QUEUED_SHOWN))
    return page(
        call.request,
        "worker.html",
        title=text("workers.one", name=name),
        worker=worker,
        standing=standing_of(worker),
        parts=at.items,
        path=f"/workers/{name}",
        lines=Lines(
            api=[f"GET /api/v1/workers/{name}", f"PUT /api/v1/workers/{name}/drain"],
            cli=[f"seatrial worker show {name}", f"seatrial worker drain {name}"],
        ),
    )


async def bind_worker(call: Call) -> web.Response:
    """Bind a worker to what the form says; what is left empty binds it no longer."""
    name = call.request.match_info["worker"]
    fields = read_form(call)
    wanted = {each: _several(fields, each) for each in _LISTS} | {"slots": whole_number(fields, "slots")}
    await workers.bind_worker(call, name, workers.Binding.model_validate(wanted), as_seen(call))
    return moved(call, f"/workers/{name}")


async def drain_worker(call: Call) -> web.Response:
    """Give a worker no more jobs."""
    name = call.request.match_info["worker"]
    await workers.drain_worker(call, name)
    return moved(call, f"/workers/{name}")


async def resume_worker(call: Call) -> web.Response:
    """Give a worker jobs again."""
    name = call.request.match_info["worker"]
    await workers.undrain_worker(call, name)
    return moved(call, f"/workers/{name}")


async def revoke_worker(call: Call) -> web.Response:
    """Let a worker and its tokens open nothing any more."""
    worker = await workers.show_worker(call, call.request.match_info["worker"])
    name = worker.name
    require_sure(read_form(call), text("sure.worker", name=name), comes_to=text("sure.worker.then"))
    await workers.revoke_worker(call, name)
    return moved(call, f"/workers/{name}")


async def show_queue(call: Call) -> web.Response:
    """What is tried now, and what waits and why."""
    found = await queue.show_queue(call, queue.QueueQuery(limit=QUEUED_SHOWN))
    return page(
        call.request,
        "queue.html",
        title=text("queue.title"),
        queue=found,
        most=QUEUED_SHOWN,
        lines=Lines(
            api=["GET /api/v1/queue", "POST /api/v1/trials/ID/cancel"],
            cli=["seatrial trial queue", "seatrial trial cancel ID"],
        ),
    )


async def cancel_trial(call: Call) -> web.Response:
    """End a trial before its verdict, and go back to the page that the form stands on."""
    trial_id = call.request.match_info["trial"]
    await trials.cancel_trial(call, trial_id)
    return moved(call, "/queue" if read_form(call).get("from") == "queue" else f"/trials/{trial_id}")


def standing_of(worker: Worker) -> str:
    """Whether it gets jobs, or why not."""
    if worker.revoked_at is not None:
        return "revoked"
    if worker.drain_at is not None:
        return "drained"
    silent = timedelta(seconds=SILENT_SECONDS)
    if worker.last_seen_at is None or datetime.now(UTC) - worker.last_seen_at > silent:
        return "silent"
    return "alive"


def _several(fields: Fields, name: str) -> tuple[str, ...] | None:
    """What stands in a field, with spaces or lines between; ``None``: nothing."""
    return tuple(fields.get(name, "").split()) or None
