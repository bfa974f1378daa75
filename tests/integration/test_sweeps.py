"""What has expired goes, also while a part of the registry is down."""

from __future__ import annotations

from pathlib import Path

import aiohttp
from sqlalchemy import func, select, update
from structlog.testing import capture_logs

from registry.db.content import upload_sessions
from registry.db.sessions import sessions
from registry.db.types import db_time
from registry.http.sweeps import sweep
from tests.kit.access import make_user
from tests.kit.distribution import start_upload
from tests.kit.server import Registry
from tests.kit.sessions import signed_in


async def test_storage_that_fails_keeps_no_session_from_being_swept(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, tmp_path: Path
) -> None:
    assert registry.services is not None
    database = registry.services.database
    await signed_in(nobody, "bob", await make_user(client, "bob"))
    await start_upload(client, "team/app")
    # A folder is no file that could be deleted.
    (upload,) = (tmp_path / "data" / "blobs" / "uploads").iterdir()
    upload.unlink()
    upload.mkdir()
    async with database.write() as connection:
        for table in (sessions, upload_sessions):
            await connection.execute(update(table).values(expires_at=db_time()))
    with capture_logs() as logs:
        await sweep(registry.services)
    (told,) = logs
    assert told["what"] == "uploads"
    async with database.read() as connection:
        assert await connection.scalar(select(func.count()).select_from(sessions)) == 0
