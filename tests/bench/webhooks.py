"""How fast one process tells a receiver of events, and what becomes of them while the receiver is away."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.figures import Figure
from tests.bench.manifests import binaries, postmaster
from tests.bench.ours import Ours, registry
from tests.bench.processes import peak_bytes, reset_peak, resident_bytes, tree_cpu_seconds
from tests.kit.postgres import PostgresServer, running_postgres

EVENTS = 10_000
REPOSITORIES = 20
AWAY_SECONDS = 20
_A_STATEMENT = 1000
_LIMIT_SECONDS = 600.0
_MEBIBYTE = 1 << 20


def webhooks(scratch: Path) -> Iterator[Figure]:
    """10,000 events to one ordered webhook: by a receiver that is there, and by one that comes back."""
    with running_postgres(binaries()) as postgres:
        for database, server in (("SQLite", None), ("PostgreSQL", postgres)):
            yield from _told(database, scratch / f"webhooks-{database}", server)


@dataclass(slots=True)
class _Receiver:
    """``seen`` has the deliveries that were taken; ``late`` counts those that came after a later one of their
    repository."""

    there: bool = True
    port: int = 0
    asked: int = 0
    late: int = 0
    seen: set[str] = field(default_factory=set)
    _last: dict[str, int] = field(default_factory=dict)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take what comes over one connection."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                fields = dict(line.partition(": ")[::2] for line in head.split("\r\n")[1:])
                body = await reader.readexactly(int(fields["content-length"]))
                self.asked += 1
                if self.there:
                    self._take(fields["webhook-id"], json.loads(body))
                status = b"204 No Content" if self.there else b"503 Service Unavailable"
                writer.write(b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % status)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _take(self, delivery: str, event: dict[str, object]) -> None:
        if delivery in self.seen:
            return
        self.seen.add(delivery)
        repository, position = str(event["subject"]), int(str(event["id"]))
        self.late += position < self._last.get(repository, 0)
        self._last[repository] = max(position, self._last.get(repository, 0))


@contextmanager
def _receiving() -> Iterator[_Receiver]:
    """A receiver in a thread, while the block runs."""
    receiver, loop, ready = _Receiver(), asyncio.new_event_loop(), threading.Event()

    async def listen() -> None:
        server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
        receiver.port = server.sockets[0].getsockname()[1]
        ready.set()

    def run() -> None:
        task = loop.create_task(listen())
        loop.run_forever()
        task.cancel()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield receiver
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def _told(database: str, folder: Path, postgres: PostgresServer | None) -> Iterator[Figure]:
    url = postgres.url(postgres.create()) if postgres else None
    allowed = {"outgoing_networks": "127.0.0.0/8"}
    with _receiving() as receiver, registry(folder, database_url=url, settings=allowed) as ours:
        hook = {"url": f"http://127.0.0.1:{receiver.port}/", "kinds": ["tag.moved"], "ordered": True}
        ours.service.request("/api/v1/webhooks", method="POST", body=hook)
        server = ours.service.process.pid
        pids = (server, *(() if postgres is None else (postmaster(postgres),)))
        spent, began = sum(map(tree_cpu_seconds, pids)), time.monotonic()
        _happen(ours)
        _wait(receiver, EVENTS)
        minutes = (time.monotonic() - began) / 60
        spent = sum(map(tree_cpu_seconds, pids)) - spent
        yield Figure(f"{database}: events told of in a minute", EVENTS / minutes, "", at_least=EVENTS)
        yield Figure(f"{database}: CPU for 10,000 events, with the database's", spent, "s")
        before = resident_bytes(server)
        reset_peak(server)
        receiver.there, asked = False, receiver.asked
        _happen(ours)
        time.sleep(AWAY_SECONDS)
        _an_hour_later(ours)
        time.sleep(AWAY_SECONDS)
        asked = receiver.asked - asked
        receiver.there = True
        _an_hour_later(ours)
        _wait(receiver, 2 * EVENTS)
        grown = (peak_bytes(server) - before) / _MEBIBYTE
        yield Figure(f"{database}: requests to a receiver that is away", asked, "", at_most=100)
        yield Figure(f"{database}: lost", 2 * EVENTS - len(receiver.seen), "", at_most=0)
        yield Figure(f"{database}: out of the order of their repository", receiver.late, "", at_most=0)
        yield Figure(f"{database}: memory over that before it went away", grown, "MiB", at_most=32)


def _happen(ours: Ours) -> None:
    """Events of several repositories, in turn."""
    for first in range(0, EVENTS, _A_STATEMENT):
        at = time.time_ns() // 1000
        rows = ", ".join(
            f"""('tag.moved', 'bench/{number % REPOSITORIES}', 'bench', '{{"number": {number}}}', {at})"""
            for number in range(first, first + _A_STATEMENT)
        )
        ours.execute(f"INSERT INTO events (kind, repository, actor, data, at) VALUES {rows}")


def _an_hour_later(ours: Ours) -> None:
    """As if so much time had gone by: what waits to be tried again is due."""
    ours.execute(
        "UPDATE deliveries SET due_at = 1 WHERE due_at IS NOT NULL",
        "UPDATE webhooks SET hold_until = NULL, next_at = 1 WHERE lease IS NULL",
    )


def _wait(receiver: _Receiver, count: int) -> None:
    deadline = time.monotonic() + _LIMIT_SECONDS
    while len(receiver.seen) < count and time.monotonic() < deadline:
        time.sleep(0.05)
