"""How it stands with the file of advisories, for those who only want to know."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from registry.advisories.file import Status, open_advisories
from registry.errors import NotFoundError, UnavailableError

MISSING = "there is no file of advisories"
UNREADABLE = "the file of advisories cannot be read"


@dataclass(frozen=True, slots=True)
class Standing:
    """What is in the file, or the ``problem`` why nothing can be matched, without the path of the host."""

    problem: str | None
    status: Status | None

    @property
    def oldest_at(self) -> datetime | None:
        """When the oldest source was as it is there."""
        oldest = None if self.status is None else self.status.oldest
        return None if oldest is None else oldest.as_of


def standing(path: Path) -> Standing:
    """Look at the file anew: another may have taken its place."""
    try:
        with closing(open_advisories(path)) as advisories:
            return Standing(None, advisories.status())
    except NotFoundError:
        return Standing(MISSING, None)
    except UnavailableError:
        return Standing(UNREADABLE, None)
