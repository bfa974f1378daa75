"""One registry process: opens what it needs, serves until told to stop, and gives everything back."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from registry.auth.firststart import FirstStart, ensure_admin
from registry.auth.livesessions import LiveSessions
from registry.auth.oidc.opened import open_oidc
from registry.auth.secretkey import open_secret_key
from registry.auth.tokens import add_worker_token, is_known_token
from registry.auth.tokenservice import open_token_service
from registry.cli.supervision import ending_signals
from registry.content.uploadledger import DatabaseLedger
from registry.db.engine import Database
from registry.db.inuse import serving
from registry.events.attempts import Pace
from registry.events.courier import Courier
from registry.events.pulls import PullCounts
from registry.events.refusals import Refusals
from registry.http.selfsigned import SelfSigned, ensure_self_signed
from registry.http.server import running_server
from registry.http.services import Services
from registry.net.guarded import GuardedClient
from registry.net.names import OwnThreads
from registry.settings import Settings, SettingsError
from registry.storage.filesystem import FilesystemStore
from registry.storage.store import BlobStore
from registry.trials.effects import TrialEffects
from registry.trials.identities import load_trust
from registry.trials.waiting import Waiters

_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3
"""From ``malloc.h``."""


@dataclass(frozen=True, slots=True)
class OwnWorker:
    """The worker that runs beside this registry, and the SHA-256 of the token that it has, if any."""

    name: str
    token_hash: str | None


@dataclass(frozen=True, slots=True)
class Started:
    """The address served at, what first start made, the certificate that was made, and a token for the own
    worker where it needs one."""

    address: str
    first: FirstStart | None
    certificate: SelfSigned | None
    worker_token: str | None


async def serve(
    settings: Settings,
    *,
    ready: Callable[[Started], None],
    worker: OwnWorker | None = None,
    sockets: list[socket.socket] | None = None,
) -> None:
    """Serve until a signal that ends it, and finish what runs then, or until the second; ``ready`` is
    told once it serves. ``sockets`` listen already, for several processes; else they are made.

    The database has the newest schema already.

    Raises:
        SettingsError: the secret key, the storage or the address cannot be used.
        ConflictError: a person's account has the worker's name, or the database is being copied.
    """
    _tame_malloc(settings)
    stop, hurry = asyncio.Event(), asyncio.Event()

    def told_to_end() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in ending_signals():
        # A shell tells again of a terminal that is closed, of which the system has told already.
        loop.add_signal_handler(number, stop.set if number == signal.SIGHUP else told_to_end)
    async with serving(settings.effective_database_url), opened_services(settings) as services:
        first = await ensure_admin(services.database, settings)
        token = await _worker_token(services.database, worker) if worker else None
        try:
            certificate = ensure_self_signed(settings) if settings.tls else None
            async with running_server(services, sockets=sockets, hurry=hurry) as (host, port):
                shown = f"[{host}]" if ":" in host else host
                ready(
                    Started(
                        address=f"{settings.scheme}://{shown}:{port}",
                        first=first,
                        certificate=certificate,
                        worker_token=token,
                    )
                )
                await stop.wait()
        except OSError as error:
            raise SettingsError(
                f"listen: {settings.listen} cannot be used: {error.strerror or error}"
            ) from None


def _tame_malloc(settings: Settings) -> None:
    """Let all threads allocate from two arenas of the C library.

    Each would have one of its own, and what is freed in one no other thread can use: with 32 threads that
    read from S3 for 500 pulls at once this halves what the process grows by.
    """
    with suppress(OSError, AttributeError):  # another C library has no such thing
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, 2)
        if settings.effective_storage_url.startswith("s3:"):
            # What is on its way goes back to the system when it has gone, and leaves no holes: a fifth less.
            libc.mallopt(_M_MMAP_THRESHOLD, 1 << 16)


@asynccontextmanager
async def opened_services(settings: Settings, *, pace: Pace | None = None) -> AsyncIterator[Services]:
    """The parts of one process, closed at the end. ``pace`` is that of deliveries.

    Raises:
        SettingsError: the secret key or the storage cannot be used.
    """
    database = Database(
        settings.effective_database_url,
        staleness_seconds=settings.cache_staleness_seconds,
        reserve_bytes=settings.reserve_bytes,
    )
    try:
        blobs = await open_blob_store(settings, database)
        try:
            outgoing = GuardedClient(settings.outgoing_networks)
            pace = pace or Pace()
            # Connections and lookups of their own: a receiver or its name server that hangs must keep nobody
            # from signing in. A lookup may hang for longer than it is waited for.
            bringing = GuardedClient(
                settings.outgoing_networks,
                resolver=OwnThreads(most=2 * pace.webhooks),
                connections=pace.webhooks * pace.at_once,
                per_host=2 * pace.at_once,
            )
            secret_key = open_secret_key(settings)
            oidc = open_oidc(settings, database, outgoing, secret_key)
            tokens = await open_token_service(settings, database, oidc)
            sessions = LiveSessions(database, settings, credentials=tokens.credentials)
            try:
                yield Services(
                    settings=settings,
                    database=database,
                    blobs=blobs,
                    tokens=tokens,
                    sessions=sessions,
                    effects=TrialEffects(settings, load_trust(settings.signature_trust_file)),
                    pulls=PullCounts(),
                    refusals=Refusals(),
                    outgoing=outgoing,
                    oidc=oidc,
                    secret_key=secret_key,
                    courier=Courier(database, bringing, secret_key, source=settings.source, pace=pace),
                    waiters=Waiters(),
                )
            finally:
                await outgoing.close()
                await bringing.close()
                await sessions.close()
                await tokens.credentials.uses.close()
                tokens.close()
        finally:
            await blobs.close()
    finally:
        await database.close()


async def _worker_token(database: Database, worker: OwnWorker) -> str | None:
    async with database.write() as connection:
        # A token that the database knows stands, also when it was revoked: that was somebody's decision.
        if worker.token_hash and await is_known_token(connection, worker.token_hash):
            return None
        made = await add_worker_token(connection, worker=worker.name)
        return made.secret


async def open_blob_store(settings: Settings, database: Database) -> BlobStore:
    """The blob store that ``storage_url`` names; ``database`` is told of unfinished uploads to S3.

    Raises:
        SettingsError: not a kind of store that there is, or one that cannot be used.
    """
    url = urlsplit(settings.effective_storage_url)
    if url.scheme == "s3":
        # Its libraries take 25 MB, which a registry on a folder does not need.
        from registry.storage.s3 import open_s3  # noqa: PLC0415

        return await open_s3(
            settings.effective_storage_url,
            credentials_file=settings.storage_credentials_file,
            ledger=DatabaseLedger(database),
            folder=settings.data / "spool",
        )
    if url.scheme != "file" or url.netloc or not url.path.startswith("/"):
        raise SettingsError("storage_url: must be file:///FOLDER or s3://BUCKET/PREFIX?…")
    try:
        return FilesystemStore(Path(unquote(url.path)), reserve_bytes=settings.reserve_bytes)
    except OSError as error:
        raise SettingsError(f"storage_url: {url.path} cannot be used: {error.strerror}") from None
