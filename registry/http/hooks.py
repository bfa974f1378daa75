"""``POST /hooks/NAME``: messages of others that ask for trials, signed and not signed in."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from registry.http.api.routes import given_run_spec
from registry.http.body import leave_expectation, read_all
from registry.http.headers import client_of
from registry.http.proxies import client_address
from registry.http.services import SERVICES
from registry.trials.receiving import BODY_MAX_BYTES, Message, receive


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
    taken = await receive(
        services.database,
        services.settings,
        services.secret_key,
        name=request.match_info["name"],
        message=message,
        parse_spec=partial(given_run_spec, request.app),
    )
    told = [{"id": each, "url": f"{services.settings.source}/api/v1/trials/{each}"} for each in taken.trials]
    return web.json_response(
        {"trials": told, "repeated": taken.repeated}, status=202, headers={"Cache-Control": "no-store"}
    )
