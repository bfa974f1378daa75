"""What guessing passwords costs, whether the right one still gets in meanwhile, and what a cookie costs."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import uvloop
from sqlalchemy import select

from registry.auth.firststart import ensure_admin
from registry.auth.sessions import start_session
from registry.cli.process import opened_services
from registry.db.accounts import accounts
from registry.db.migrate import upgrade
from registry.settings import Settings
from tests.bench.figures import Figure, over
from tests.bench.load import request
from tests.bench.manifests import binaries, postmaster
from tests.bench.ours import Ours, registry
from tests.bench.processes import tree_cpu_seconds
from tests.kit.postgres import PostgresServer, running_postgres

TRIES = 10_000
PLACES = 100
HOME, HOTEL = "127.9.0.1", "127.9.0.2"
PASSWORD = "the right password"
ROUNDS = 7
CHECKS = 5_000


def signins(scratch: Path) -> Iterator[Figure]:
    """10,000 wrong passwords from 100 addresses: for one account, and for as many names; a warm cookie."""
    with running_postgres(binaries()) as postgres:
        for database, server in (("SQLite", None), ("PostgreSQL", postgres)):
            for words, name_of in (
                ("one account", lambda _: "bob"),
                ("10,000 names", lambda number: f"name{number}"),
            ):
                folder = scratch / f"{database}-{words.replace(' ', '-')}"
                yield from _guessing(f"{database}, {words}", folder, server, name_of)
        yield from _cookies(scratch, postgres)


def _guessing(
    what: str, folder: Path, postgres: PostgresServer | None, name_of: Callable[[int], str]
) -> Iterator[Figure]:
    url = postgres.url(postgres.create()) if postgres else None
    with registry(folder, database_url=url) as ours:
        ours.service.request("/api/v1/users", method="POST", body={"name": "bob", "password": PASSWORD})
        refused = 0 if _gets_in(ours, HOME) else 1
        pids = (ours.service.process.pid, *(() if postgres is None else (postmaster(postgres),)))
        before = sum(map(tree_cpu_seconds, pids))
        statuses = Counter[bytes]()
        with ExitStack() as stack:
            guessers = [stack.enter_context(_connected(ours, place)) for place in range(PLACES)]
            for first in range(0, TRIES, PLACES):
                for place, guesser in enumerate(guessers):
                    guesser.sendall(
                        request("GET", "/token", _basic(name_of(first + place), f"wrong {first}"))
                    )
                for guesser in guessers:
                    statuses[_status(guesser)] += 1
                if first % 1000 == 0:
                    # A session always looks at the password anew.
                    refused += not _gets_in(ours, HOME)
        refused += not _gets_in(ours, HOTEL)
        spent = sum(map(tree_cpu_seconds, pids)) - before
    if set(statuses) - {b"401", b"429"}:
        raise RuntimeError(f"answered {statuses}")
    yield Figure(f"{what}: CPU for 100 wrong passwords", spent / TRIES * 100, "s", at_most=1)
    yield Figure(f"{what}: of 10,000 looked at", statuses[b"401"], "")
    yield Figure(f"{what}: the right password, meanwhile and after, refused", refused, "", at_most=0)


def _connected(ours: Ours, place: int) -> socket.socket:
    address = f"127.8.0.{place + 1}"
    return socket.create_connection(("127.0.0.1", ours.service.port), 60, source_address=(address, 0))


def _basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def _status(connection: socket.socket) -> bytes:
    """The status of an answer, which is read to its end."""
    with connection.makefile("rb", buffering=0) as stream:
        status = stream.readline().split()[1]
        length = 0
        while (line := stream.readline().strip().lower()) != b"":
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        while length:
            length -= len(stream.read(length) or b"")
    return status


def _gets_in(ours: Ours, address: str) -> bool:
    connection = http.client.HTTPConnection(
        "127.0.0.1", ours.service.port, timeout=60, source_address=(address, 0)
    )
    body = json.dumps({"name": "bob", "password": PASSWORD})
    connection.request("POST", "/api/v1/sessions", body, {"Content-Type": "application/json"})
    status = connection.getresponse().status
    connection.close()
    return status == http.HTTPStatus.CREATED


def _cookies(scratch: Path, postgres: PostgresServer) -> Iterator[Figure]:
    for database, url in (("SQLite", None), ("PostgreSQL, strict", postgres.url(postgres.create()))):
        settings = Settings(data=scratch / database.partition(",")[0], database_url=url)
        settings.data.mkdir()
        upgrade(settings.effective_database_url)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            samples = runner.run(_checks(settings))
        limit = 10 if url is None else None
        yield over(f"{database}, a warm look at a session", samples, "us", at_most=limit)


async def _checks(settings: Settings) -> list[float]:
    async with opened_services(settings) as services:
        await ensure_admin(services.database, settings)
        async with services.database.write() as connection:
            account_id = (await connection.execute(select(accounts.c.id))).scalars().one()
            made = await start_session(
                connection, settings, account_id=account_id, address="192.0.2.1", client="bench"
            )
        look = services.sessions.actor_of
        samples = []
        for i in range(ROUNDS + 1):
            before = time.process_time()
            for _ in range(CHECKS):
                await look(made.secret, address="192.0.2.1", client="bench")
            if i:
                samples.append((time.process_time() - before) / CHECKS * 1e6)
        return samples
