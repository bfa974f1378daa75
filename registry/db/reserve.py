"""Room that SQLite can always have: a file beside the database, given back when others have filled the disk.

Without a free block SQLite can commit nothing, not even a delete. So some blocks are held while there is
room, given back when nearly none is left, and held again once there is enough; in between pushes are refused
and everything else goes on. Any number of processes may look after one file.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.engine import make_url

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

log: FilteringBoundLogger = structlog.get_logger("seatrial.database")


class Reserve:
    """``size`` bytes held beside the SQLite file ``database``; none where ``size`` is 0."""

    def __init__(self, database: Path, size: int) -> None:
        self._folder = database.parent
        self._path = Path(f"{database}.reserve")
        self._size = size

    def look(self) -> bool:
        """Give the room back or hold it again, whichever it is time for; whether it is held now.

        Takes some microseconds, and a few milliseconds when it is held again.
        """
        if self._size == 0:
            return True
        with suppress(OSError):  # another process was first, or has just taken the room
            disk = os.statvfs(self._folder)
            free = disk.f_bavail * disk.f_frsize
            if free < self._size // 2:
                self._give_back()
            # As much again is left beside it: else the next look would give it back.
            elif free >= 2 * self._size and not self._path.exists():
                self._hold()
        return self._path.exists()

    def _give_back(self) -> None:
        with suppress(FileNotFoundError):
            self._path.unlink()
            log.warning("the disk is full: the reserve was given back, pushes are refused", bytes=self._size)

    def _hold(self) -> None:
        made = self._path.with_name(f"{self._path.name}.new")
        fd = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.posix_fallocate(fd, 0, self._size)
            made.rename(self._path)
        except OSError:
            made.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)


def reserve_for(url: str, size: int) -> Reserve:
    """The room held for this database: none for PostgreSQL, which has to look after its own disk."""
    parsed = make_url(url)
    is_file = parsed.get_backend_name() == "sqlite" and parsed.database
    return Reserve(Path(parsed.database or ""), size if is_file else 0)
