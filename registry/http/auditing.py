"""What requests leave in the audit trail beside their effects: refusals and pulls; and who keeps it short."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from registry.auth.actor import ANONYMOUS
from registry.errors import GateRefusedError
from registry.events.keeping import keep
from registry.events.refusals import Refusal
from registry.http.caller import ACTOR, TRIED_NAME
from registry.http.headers import client_of
from registry.http.metrics import METRICS
from registry.http.proxies import client_address
from registry.http.services import SERVICES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from structlog.typing import FilteringBoundLogger

    from registry.errors import SeatrialError
    from registry.http.services import Services

log: FilteringBoundLogger = structlog.get_logger("seatrial.audit")
WRITE_SECONDS = 5.0
"""How long a refusal or a pull may be in memory only: what a kill loses."""
KEEP_SECONDS = 60.0
_END_SECONDS = 5.0
_NAME_MAX = 64
_REFUSALS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS)


class TrailState:
    """What this process knows of the trail. ``shortened``: rows went before their time within a day."""

    def __init__(self) -> None:
        self.shortened = False


TRAIL = web.AppKey("trail", TrailState)


def note_refusal(request: web.Request, error: SeatrialError, route: str) -> None:
    """Count a request that is answered with ``error``, if that refuses something to somebody.

    A challenge to whoever came without credentials, or with a token that was not asked for this, is the way
    that clients sign in, and no refusal.
    """
    if error.status not in _REFUSALS:
        return
    services = request.app[SERVICES]
    action = f"{request.method} {route}"
    actor = request.get(ACTOR)
    if actor is None:
        tried = request.get(TRIED_NAME)
        if tried is None:
            return
        address = client_address(request, services.settings)
        stranger = replace(ANONYMOUS, address=address, client=client_of(request))
        name = tried[:_NAME_MAX] or None
        services.refusals.note(Refusal("sign_in.refused", stranger, action, None, name, error.message))
    elif isinstance(error, GateRefusedError):
        told = {"digest": error.digest, "reason": error.reason, "trial": error.trial}
        services.refusals.note(
            Refusal("pull.refused", actor, action, error.repository, error.digest, error.reason, told)
        )
    elif error.status == HTTPStatus.FORBIDDEN or (
        error.status == HTTPStatus.UNAUTHORIZED and actor.kind == "anonymous" and actor.from_registry_token
    ):
        services.refusals.note(
            Refusal("access.refused", actor, action, _repository(error.detail), None, error.message)
        )


def _repository(detail: object) -> str | None:
    """The repository that an answer of :mod:`registry.auth.access` names."""
    first = detail[0] if isinstance(detail, list) and detail else None
    if isinstance(first, dict) and first.get("Type") == "repository":
        return str(first["Name"])
    return None


async def auditing(app: web.Application) -> AsyncIterator[None]:
    """Write what was counted every few seconds and at the end, and keep the trail within its bounds."""
    ended = asyncio.Event()
    writing = asyncio.create_task(_write_until(app, ended))
    keeping = asyncio.create_task(_keep_forever(app))
    yield
    # Not broken off: of what a broken-off writing has written, nobody knows.
    ended.set()
    keeping.cancel()
    _, late = await asyncio.wait([writing, keeping], timeout=_END_SECONDS)
    for task in late:
        task.cancel()
    if late:
        log.error("refusals and pulls of the last seconds are lost: the database does not answer")
        await asyncio.wait(late)


async def _write_until(app: web.Application, ended: asyncio.Event) -> None:
    while not ended.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), WRITE_SECONDS)
        await _write(app, everything=ended.is_set())


async def _write(app: web.Application, *, everything: bool) -> None:
    services: Services = app[SERVICES]
    try:
        await services.refusals.flush(services.database, everything=everything)
        await services.pulls.flush(services.database)
    except (SQLAlchemyError, OSError) as error:
        log.warning("refusals and pulls could not be written yet", reason=repr(error))
    except Exception:  # a loop: whatever it was, the next ones must be written
        log.exception("refusals and pulls could not be written yet")
    lost, services.pulls.lost = services.pulls.lost, 0
    if lost:
        app[METRICS].pulls_uncounted.inc(lost)
        log.error("pulls were not counted: too many to remember", count=lost)


async def _keep_forever(app: web.Application) -> None:
    while True:
        try:
            await keep_trail(app)
        except (SQLAlchemyError, OSError) as error:
            log.warning("the audit trail could not be looked after", reason=repr(error))
        except Exception:  # a loop: the trail must be kept within its bounds the next time
            log.exception("the audit trail could not be looked after")
        await asyncio.sleep(KEEP_SECONDS)


async def keep_trail(app: web.Application) -> None:
    """Bring the trail within its bounds, step by step."""
    services, metrics = app[SERVICES], app[METRICS]
    shortened = 0
    while (kept := await keep(services.database, services.settings)) is not None:
        app[TRAIL].shortened = kept.alarm
        shortened += kept.shortened
        metrics.audit_rows.labels("events").set(kept.event_rows)
        metrics.audit_rows.labels("pull_days").set(kept.pull_rows)
        metrics.audit_removed.labels("expired").inc(kept.expired)
        metrics.audit_removed.labels("shortened").inc(kept.shortened)
        if not kept.more:
            break
    if shortened:
        log.error(
            "the audit trail had more rows than it may, and its oldest went before their time",
            rows=shortened,
            setting="SEATRIAL_AUDIT_MAX_ROWS",
        )
