"""One registry process: opens what it needs, serves until told to stop, and gives everything back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from registry.auth.firststart import FirstStart, ensure_admin
from registry.auth.tokenservice import open_token_service
from registry.db.engine import Database
from registry.http.server import running_server
from registry.http.services import Services
from registry.settings import Settings, SettingsError
from registry.storage.filesystem import FilesystemStore
from registry.storage.store import BlobStore
from registry.trials.on_push import TrialOnPush

Ready = Callable[[str, FirstStart | None], None]


async def serve(settings: Settings, ready: Ready) -> None:
    """Serve until SIGTERM or SIGINT; ``ready`` is told the address and what first start made.

    The database has the newest schema already.

    Raises:
        SettingsError: the secret key, the storage or the address cannot be used.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with opened_services(settings) as services:
        first = await ensure_admin(services.database, settings)
        try:
            async with running_server(services) as (host, port):
                ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}", first)
                await stop.wait()
        except OSError as error:
            raise SettingsError(
                f"listen: {settings.listen} cannot be used: {error.strerror or error}"
            ) from None


@asynccontextmanager
async def opened_services(settings: Settings) -> AsyncIterator[Services]:
    """The parts of one process, closed at the end.

    Raises:
        SettingsError: the secret key or the storage cannot be used.
    """
    database = Database(settings.effective_database_url)
    try:
        blobs = open_blob_store(settings)
        try:
            tokens = await open_token_service(settings, database)
            try:
                yield Services(
                    settings=settings,
                    database=database,
                    blobs=blobs,
                    tokens=tokens,
                    push_effects=TrialOnPush(settings),
                )
            finally:
                tokens.close()
        finally:
            await blobs.close()
    finally:
        await database.close()


def open_blob_store(settings: Settings) -> BlobStore:
    """The blob store that ``storage_url`` names.

    Raises:
        SettingsError: not a kind of store that there is, or a folder that cannot be used.
    """
    url = urlsplit(settings.effective_storage_url)
    if url.scheme != "file" or url.netloc or not url.path.startswith("/"):
        raise SettingsError("storage_url: must be file:///FOLDER")
    try:
        return FilesystemStore(Path(unquote(url.path)))
    except OSError as error:
        raise SettingsError(f"storage_url: {url.path} cannot be used: {error.strerror}") from None
