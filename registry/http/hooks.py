"""``POST /hooks/NAME``: messages of others that ask for trials, signed and not signed in."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from registry.auth.actor import ANONYMOUS
from registry.errors import SeatrialError
from registry.events.refusals import Refusal
from registry.http.api.routes import given_run_spec
from registry.http.body import leave_expectation, read_all
from registry.http.headers import client_of
from registry.http.proxies import client_address
from registry.http.services import SERVICES
from registry.trials.receiving import BODY_MAX_BYTES, Message, addressee, receive

if TYPE_CHECKING:
    from registry.trials.hooks import Hook


def add_routes(app: web.Application) -> None:
    """Serve the address of each hook."""
    app.router.add_post("/hooks/{name}", take_message, expect_handler=leave_expectation)


async def take_message(request: web.Request) -> web.Response:
    """Start the trials that a message asks for: 202 with their addresses.

    Raises:
        SeatrialError: as :func:`registry.trials.receiving.receive`.
    """
    services = request.app[SERVICES]
    message = Message(
        headers=request.headers,
        body=await read_all(request, BODY_MAX_BYTES),
        address=client_address(request, services.settings),
        client=client_of(request),
    )
    to = await addressee(services.database, services.secret_key, name=request.match_info["name"])
    try:
        taken = await receive(
            services.database,
            services.settings,
            to=to,
            message=message,
            parse_spec=partial(given_run_spec, request.app),
        )
    except SeatrialError as error:
        if error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            services.refusals.note(_refused(to.hook, message, error))
        raise
    told = [{"id": each, "url": f"{services.settings.source}/api/v1/trials/{each}"} for each in taken.trials]
    return web.json_response(
        {"trials": told, "repeated": taken.repeated}, status=202, headers={"Cache-Control": "no-store"}
    )


def _refused(hook: Hook | None, message: Message, error: SeatrialError) -> Refusal:
    """A hook that there is not is not named: whoever tries names tells the trail nothing."""
    return Refusal(
        kind="hook.refused",
        actor=replace(ANONYMOUS, address=message.address, client=message.client),
        action="POST /hooks/{name}",
        repository=None if hook is None else hook.place,
        target=None if hook is None else hook.name,
        rule=error.message,
    )
