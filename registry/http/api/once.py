"""``Idempotency-Key``: a POST that is repeated is carried out once, and answered as the first time."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from registry.auth.actor import Actor
from registry.auth.idempotency import Outcome, RepeatedError, key_of
from registry.errors import ConflictError
from registry.http.services import SERVICES, Services

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
Work = Callable[[Services], Awaitable[web.StreamResponse]]


async def answer_once(
    request: web.Request, actor: Actor, body: bytes, work: Work, *, secrets: Sequence[str]
) -> web.StreamResponse:
    """Do ``work``, unless this request was carried out before: then repeat what was answered.

    Raises:
        ConflictError: it was, and the answer cannot be repeated: it had one of ``secrets``, is not there yet,
            or was lost.
        IdempotencyKeyReusedError: the key was used for another request.
        RequestInvalidError, TooManyRequestsError: no key that can be used, or too many of them.
    """
    services = request.app[SERVICES]
    identity = b"\n".join((request.method.encode(), request.raw_path.encode(), body))
    key = key_of(actor, request.headers[HEADER], identity)
    outcome = await key.outcome(services.database)
    if outcome is None:
        try:
            response = await work(replace(services, database=services.database.beginning_with(key.claim)))
        except RepeatedError:
            outcome = await key.outcome(services.database)
        else:
            with suppress(SQLAlchemyError):  # it is done: its sender must know what came of it
                await key.keep(services.database, _outcome(response, secrets))
            return response
    return _repeated(outcome)


def _outcome(response: web.StreamResponse, secrets: Sequence[str]) -> Outcome:
    if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return Outcome(response.status, None)
    told = json.loads(response.body)
    kept = {name: value for name, value in told.items() if name not in secrets}
    if kept == told:
        return Outcome(response.status, response.body.decode())
    return Outcome(None, json.dumps(kept))


def _repeated(outcome: Outcome | None) -> web.Response:
    if outcome is None or outcome.status is None:
        made = None if outcome is None or outcome.answer is None else json.loads(outcome.answer)
        why = (
            "has not answered yet, or its answer was lost or is yours no more"
            if made is None
            else "had a secret, told once"
        )
        raise ConflictError(
            f"this request was carried out before and is not repeated; it {why}. Look at what it made before "
            "you send it with another Idempotency-Key",
            detail=made,
            headers={"Retry-After": "1"} if made is None else {},
        )
    headers = {"Cache-Control": "no-store", REPLAYED: "true"}
    if outcome.answer is None:
        return web.Response(status=outcome.status, headers=headers)
    body = outcome.answer.encode()
    return web.Response(status=outcome.status, body=body, content_type="application/json", headers=headers)
