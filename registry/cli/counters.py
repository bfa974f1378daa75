"""Where the counters of several processes lie for as long as one of them runs: a temporary folder.

A lock on the folder itself says that one does. Who cleans temporary folders by age leaves a locked one alone,
and what a killed server has left is removed at the next start.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PREFIX = "seatrial-metrics-"


@dataclass(frozen=True, slots=True)
class CountersFolder:
    """``path`` is there while ``descriptor``, which children inherit, is open in any process."""

    path: Path
    descriptor: int

    def is_there(self) -> bool:
        """Whether nobody has removed it."""
        try:
            return os.path.samestat(self.path.lstat(), os.fstat(self.descriptor))
        except OSError:
            return False

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.descriptor)


def make_counters_folder() -> CountersFolder:
    """A new one; those that no process holds any more are removed first.

    Raises:
        OSError: there is no room for it, or no descriptor.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            _hold(left).remove()
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        with suppress(BlockingIOError, FileNotFoundError):  # whoever starts now as well is just removing it
            made = _hold(path)
            if made.is_there():
                return made
            os.close(made.descriptor)


def _hold(path: Path) -> CountersFolder:
    """Lock a folder of this user.

    Raises:
        OSError: it is another's or no folder, or a process holds it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise PermissionError(path)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return CountersFolder(path, descriptor)
