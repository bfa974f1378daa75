"""The file of advisories as this process has it, open in a thread of its own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog

from registry.advisories.ecosystems import fold
from registry.advisories.file import Advisories, Source, Status, identity, open_advisories
from registry.advisories.matching import Look, Match, Named, names_of
from registry.errors import NotFoundError, RequestInvalidError, UnavailableError
from registry.storage.threads import Threads

if TYPE_CHECKING:
    from pathlib import Path

_log = structlog.get_logger("seatrial.advisories")
LOOKED_AT_MAX = 1_000_000
"""How many records the packages of one image may be held against. All packages of a distribution's kernel in
two versions have half as many; who makes a list of packages up could have billions, each of them a row."""
MATCHES_AT_ONCE = 20_000
"""How many matches are in memory at once, but for those of one package."""
_TIMES = ("as_of", "newest_at")


@dataclass(frozen=True, slots=True)
class Facts:
    """What is told of a file: when it was put in its place on this host, when its newest source was as it is
    there, and what it has records of. ``sources`` and ``ecosystems`` are JSON lists."""

    generation: str
    put_at: datetime
    as_of: datetime
    sources: str
    ecosystems: str


class Matcher:
    """Opens the file when there is one, and another as soon as it has taken its place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = Threads("matcher", 1)
        self._opened: tuple[Advisories, Facts] | None = None
        self._broken: tuple[int, int] | None = None

    async def facts(self) -> Facts | None:
        """What there is now; ``None``: no file, or none that can be read, which is logged once."""
        return await self._threads.run(self._facts)

    async def require_bounded(self, packages: Sequence[Named]) -> None:
        """For packages that a stranger's image lists, each of which is held against all that advisories say
        of its name.

        Raises:
            RequestInvalidError: that would be more than anybody's image has.
        """
        await self._threads.run(self._require_bounded, packages)

    async def look_up(self, generation: str, packages: Sequence[Named]) -> list[tuple[Match, ...]] | None:
        """The matches of each package, of as many of the first as make about ``MATCHES_AT_ONCE``; ``None``
        where there is another generation by now.

        Raises:
            UnavailableError: the file is damaged.
        """
        return await self._threads.run(self._look_up, generation, packages)

    async def close(self) -> None:
        """Let go of the file and the thread."""
        await self._threads.run(self._let_go)
        self._threads.close()

    def _facts(self) -> Facts | None:
        if self._opened is not None and self._opened[0].is_current:
            return self._opened[1]
        self._let_go()
        found = None
        with suppress(OSError):
            found = identity(self._path)
        if found is None or found == self._broken:
            return None
        try:
            self._opened = _opened(self._path)
        except NotFoundError:
            return None
        except UnavailableError as error:
            self._broken = found
            _log.warning("packages cannot be matched", reason=error.message)
            return None
        return self._opened[1]

    def _look_up(self, generation: str, packages: Sequence[Named]) -> list[tuple[Match, ...]] | None:
        if self._opened is None or self._opened[1].generation != generation:
            return None
        look, count = Look(self._opened[0]), 0
        found: list[tuple[Match, ...]] = []
        for one in packages:
            if count >= MATCHES_AT_ONCE:
                break
            found.append(look.up(one))
            count += len(found[-1])
        return found

    def _require_bounded(self, packages: Sequence[Named]) -> None:
        if self._facts() is None or self._opened is None:
            return
        # With a damaged file nothing is matched, and a scan is kept all the same.
        with suppress(UnavailableError):
            _require_bounded(self._opened[0], packages)

    def _let_go(self) -> None:
        if self._opened is not None:
            self._opened[0].close()
            self._opened = None


def _require_bounded(advisories: Advisories, packages: Sequence[Named]) -> None:
    total = 0
    asked = Counter((one.ecosystem, each.name) for one in packages for each in names_of(one))
    for (ecosystem, name), count in asked.items():
        total += count * advisories.count_about(ecosystem, fold(ecosystem, name))
        if total > LOOKED_AT_MAX:
            raise RequestInvalidError(
                f"its packages are to be held against more than {LOOKED_AT_MAX} records of advisories: "
                f"{count} of them are from {name}"
            )


def _opened(path: Path) -> tuple[Advisories, Facts]:
    advisories = open_advisories(path)
    try:
        status = advisories.status()
        return advisories, Facts(
            generation=advisories.generation,
            put_at=advisories.put_at,
            as_of=max((one.as_of for one in status.sources), default=advisories.put_at),
            sources=json.dumps([_told(one) for one in status.sources]),
            ecosystems=json.dumps(advisories.ecosystems()),
        )
    except BaseException:
        advisories.close()
        raise


def _told(source: Source) -> dict[str, Any]:
    values = asdict(source)
    return values | {name: values[name].isoformat() for name in _TIMES if values[name] is not None}


def parse_status(generation: str, sources: str) -> Status:
    """The standing of the file that :class:`Facts` were told of."""
    found = []
    for values in json.loads(sources):
        times = {name: datetime.fromisoformat(values[name]) for name in _TIMES if values[name] is not None}
        skipped = tuple((reason, count, example) for reason, count, example in values["skipped"])
        found.append(Source(**{**values, **times, "skipped": skipped}))
    return Status(generation, tuple(found))
