"""The ledger of unfinished uploads (:mod:`registry.storage.ledger`): rows, and the database's clock."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import case, delete, insert, or_, select, update

from registry.db.dialect import batches, insert_ignoring_conflict
from registry.db.multipart import multipart_parts, multipart_uploads
from registry.db.types import db_time
from registry.errors import BlobUploadInvalidError, BlobUploadUnknownError
from registry.storage.ledger import LEASE_SECONDS, Part, UploadState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from registry.db.engine import Database

_STATE = tuple(multipart_uploads.c[name] for name in UploadState.__slots__)
_HELD = timedelta(seconds=LEASE_SECONDS)


class DatabaseLedger:
    """An :class:`~registry.storage.ledger.UploadLedger`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, locator: str) -> None:
        """See :meth:`UploadLedger.create`."""
        async with self._database.write() as connection:
            values = {"locator": locator, "written_at": db_time()}
            statement = insert_ignoring_conflict(connection, multipart_uploads, values)
            made = (await connection.execute(statement.returning(multipart_uploads.c.locator))).first()
        if made is None:
            raise BlobUploadInvalidError("there is an upload under this locator")

    async def find(self, locator: str) -> UploadState | None:
        """See :meth:`UploadLedger.find`."""
        async with self._database.read_once() as connection:
            rows = await connection.execute(select(*_STATE).where(multipart_uploads.c.locator == locator))
            row = rows.first()
        return UploadState(*row) if row else None

    async def hold(self, locator: str) -> UploadState | None:
        """See :meth:`UploadLedger.hold`."""
        held_until = multipart_uploads.c.held_until
        async with self._database.write() as connection:
            rows = await connection.execute(
                update(multipart_uploads)
                .where(
                    multipart_uploads.c.locator == locator,
                    or_(held_until.is_(None), held_until < db_time()),
                )
                .values(
                    epoch=multipart_uploads.c.epoch + 1,
                    held_until=db_time(_HELD),
                    # One that was given up may still be sending the next part.
                    next_part=multipart_uploads.c.next_part + case((held_until.is_(None), 0), else_=1),
                )
                .returning(*_STATE)
            )
            row = rows.first()
        if row is not None:
            return UploadState(*row)
        if await self.find(locator) is None:
            return None
        raise BlobUploadInvalidError("another request is writing to this upload")

    async def renew(self, state: UploadState) -> bool:
        """See :meth:`UploadLedger.renew`."""
        async with self._database.write() as connection:
            renewed = await connection.execute(
                update(multipart_uploads)
                .where(
                    multipart_uploads.c.locator == state.locator,
                    multipart_uploads.c.epoch == state.epoch,
                    # A renewal that was on its way when the holder let go would shut everybody out.
                    multipart_uploads.c.held_until.is_not(None),
                )
                .values(held_until=db_time(_HELD))
            )
        return renewed.rowcount == 1

    async def save(self, state: UploadState, part: Part | None = None, *, release: bool = False) -> None:
        """See :meth:`UploadLedger.save`."""
        values = asdict(state)
        values |= {"held_until": None if release else db_time(_HELD), "written_at": db_time()}
        async with self._database.write() as connection:
            saved = await connection.execute(
                update(multipart_uploads)
                .where(multipart_uploads.c.locator == state.locator, multipart_uploads.c.epoch == state.epoch)
                .values(values)
            )
            if saved.rowcount == 1:
                if part is not None:
                    await connection.execute(
                        insert(multipart_parts).values(locator=state.locator, **asdict(part))
                    )
                return
        if await self.find(state.locator) is None:
            raise BlobUploadUnknownError("the upload was cancelled meanwhile")
        raise BlobUploadInvalidError("another request has taken this upload over")

    async def parts(self, locator: str) -> Sequence[Part]:
        """See :meth:`UploadLedger.parts`."""
        columns = (multipart_parts.c[name] for name in Part.__slots__)
        async with self._database.read_once() as connection:
            rows = await connection.execute(
                select(*columns)
                .where(multipart_parts.c.locator == locator)
                .order_by(multipart_parts.c.number)
            )
            return [Part(*row) for row in rows]

    async def remove(self, locator: str, *, epoch: int | None = None) -> UploadState | None:
        """See :meth:`UploadLedger.remove`."""
        statement = delete(multipart_uploads).where(multipart_uploads.c.locator == locator)
        if epoch is not None:
            statement = statement.where(multipart_uploads.c.epoch == epoch)
        async with self._database.write() as connection:
            row = (await connection.execute(statement.returning(*_STATE))).first()
        return UploadState(*row) if row else None

    async def list_written(self, *, before: datetime) -> Sequence[str]:
        """See :meth:`UploadLedger.list_written`."""
        async with self._database.read_once() as connection:
            rows = await connection.execute(
                select(multipart_uploads.c.locator).where(multipart_uploads.c.written_at < before)
            )
            return [row.locator for row in rows]

    async def written_since(self, locators: Sequence[str], since: datetime) -> set[str]:
        """See :meth:`UploadLedger.written_since`."""
        found: set[str] = set()
        async with self._database.read() as connection:
            for batch in batches(locators):
                rows = await connection.execute(
                    select(multipart_uploads.c.locator).where(
                        multipart_uploads.c.locator.in_(batch), multipart_uploads.c.written_at >= since
                    )
                )
                found |= {row.locator for row in rows}
        return found
