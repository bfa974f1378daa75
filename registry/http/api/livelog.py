"""``/api/v1/trials/{trial_id}/log/live``: what the image writes, while it writes it, as server-sent events
(WHATWG HTML, 9.2).

A stream holds no connection of the database and one piece of output: the next is read when the one before has
gone out. What it has told stands in each event's id, so that any replica goes on where another was cut off.
Those who watch one log look together.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Literal

from aiohttp import web
from pydantic import Field

from registry.auth.actor import Actor
from registry.auth.policy import reads_trials
from registry.db.engine import Database
from registry.errors import NotFoundError, RequestInvalidError, SeatrialError, TooManyRequestsError
from registry.http.api.fields import Id
from registry.http.api.logrights import require_log
from registry.http.api.models import Query
from registry.http.api.routes import Call, Route
from registry.http.cookies import authenticate_caller
from registry.http.metrics import METRICS
from registry.trials.asking import may_read_log
from registry.trials.livelog import Cursor, Look, PartStanding, look
from registry.trials.looks import Looks

WAIT_MAX_SECONDS = 3600.0
LOOK_SECONDS = 0.5
HEARTBEAT_SECONDS = 15.0
STALLED_SECONDS = 60.0
STREAMS_MAX = 200
"""At once, of one process: who watches alone looks into the database twice a second."""
STREAMS_EACH_MAX = 20
"""Of them, those of one account."""
EVENT_STREAM = "text/event-stream"
_HEADERS = {
    "Content-Type": EVENT_STREAM,
    "Cache-Control": "no-store, no-transform",
    # nginx holds answers back until it has some kilobytes of them, unless told.
    "X-Accel-Buffering": "no",
}
_CURSOR = re.compile(r"([0-9]{1,6})\.([0-9]{1,4})\.([0-9]{1,9})")
_PARTS_MAX = 500


@dataclass(slots=True)
class Streams:
    """How many streams this process has now, by account, and what they have in common."""

    of_each: Counter[str] = field(default_factory=Counter)
    looks: Looks = field(default_factory=Looks)

    @contextmanager
    def room(self, actor: Actor) -> Iterator[None]:
        """Count a stream of the actor while the block runs.

        Raises:
            TooManyRequestsError: it has as many as it may have, or all together do.
        """
        if self.of_each.total() >= STREAMS_MAX:
            whose = f"this registry shows {STREAMS_MAX} logs"
        elif self.of_each[actor.shown] >= STREAMS_EACH_MAX:
            whose = f"you watch {STREAMS_EACH_MAX} logs"
        else:
            self.of_each[actor.shown] += 1
            try:
                yield
            finally:
                self.of_each[actor.shown] -= 1
                self.of_each += Counter()  # forgets who has none
            return
        raise TooManyRequestsError(f"{whose} already; try again later", headers={"Retry-After": "5"})


STREAMS = web.AppKey("live_log_streams", Streams)


class LiveQuery(Query):
    """How long to watch."""

    wait: float = Field(
        default=WAIT_MAX_SECONDS,
        ge=0,
        le=WAIT_MAX_SECONDS,
        description="Seconds after which it ends at most.",
    )


async def follow_log(call: Call, trial_id: Id, query: LiveQuery) -> web.StreamResponse:
    """What the image writes, while it writes it, as server-sent events; for those who may read the log.

    Events are `part` (how it stands with a platform), `log` (some output of a run), `end` (state, verdict and
    reason of the trial) and `gone` (no longer to be seen), each with an object in JSON; after the last two
    nothing comes. Where a stream ends without one, go on with the `id` of its last event as `Last-Event-ID`.
    Where nothing else does, a comment comes every 15 seconds.
    """
    return await follow(call, trial_id, seconds=query.wait, write=written)


async def follow(
    call: Call, trial_id: str, *, seconds: float, write: Callable[[Event], str]
) -> web.StreamResponse:
    """As :func:`follow_log`; ``write`` gives each event as it goes over the wire."""
    cursors = parse_cursors(call.request.headers.get("Last-Event-ID", ""))
    database = call.services.database
    streams = call.request.app[STREAMS]
    watching = _Watching(call.request, call.actor, cursors, streams.looks)
    first = await look(database, trial_id, cursors)
    if first is None or not reads_trials(call.actor, first.repository, first.visibility):
        raise NotFoundError("there is no such trial, or it is not yours to see")
    require_log(call.actor, repository=first.repository, visibility=first.visibility)
    watched = call.request.app[METRICS].live_log_streams
    with streams.room(call.actor), watched.track_inprogress():
        events = watching.events(database, trial_id)
        return await _stream(call.request, events, seconds=seconds, write=write)


async def _stream(
    request: web.Request,
    events: AsyncIterator[Sequence[Event]],
    *,
    seconds: float,
    write: Callable[[Event], str],
) -> web.StreamResponse:
    response = web.StreamResponse(headers=_HEADERS)
    response.content_type = EVENT_STREAM
    await response.prepare(request)
    await _send(response, "retry: 2000\n\n")
    loop = asyncio.get_running_loop()
    end, spoken = loop.time() + seconds, loop.time()
    async for found in events:
        text = "".join(map(write, found))
        if text or loop.time() - spoken >= HEARTBEAT_SECONDS:
            await _send(response, text or ": \n\n")
            spoken = loop.time()
        if loop.time() >= end:
            break
    await response.write_eof()
    return response


async def _send(response: web.StreamResponse, text: str) -> None:
    """Write, and wait until the client takes it; one that takes nothing for a minute is let go."""
    async with asyncio.timeout(STALLED_SECONDS):
        await response.write(text.encode())


@dataclass(frozen=True, slots=True)
class Event:
    """Something that somebody who watches is told; ``id`` stands for all that was told by then."""

    kind: Literal["part", "log", "end", "gone"]
    data: Mapping[str, object]
    id: str | None = None


@dataclass(slots=True)
class _Watching:
    """Somebody who watches: who it is, as of an access epoch (``None``: that is asked at the first look), and
    what it was told."""

    request: web.Request
    actor: Actor
    cursors: Sequence[Cursor]
    looks: Looks
    epoch: int | None = None
    standing: list[PartStanding] = field(default_factory=list)

    async def events(self, database: Database, trial_id: str) -> AsyncIterator[Sequence[Event]]:
        """Events as they come up, and none after each look that found none; they end with the trial,
        with the right to see it, or with this process."""
        after_seconds = 0.0
        while not database.bell.muted:
            seen = await self._look(database, trial_id, after_seconds)
            if seen is None:
                yield [Event("gone", {"reason": "it is not there any more, or not yours to see"})]
                return
            self.cursors = seen.cursors
            found = [
                Event("part", {"part": number, **asdict(part)})
                for number, part in enumerate(seen.parts)
                if number >= len(self.standing) or self.standing[number] != part
            ]
            self.standing = list(seen.parts)
            if seen.output is not None:
                found.append(Event("log", asdict(seen.output), shown_cursors(seen.cursors)))
            elif seen.state == "done" and not seen.more:
                told = {"trial": trial_id, "state": "done", "verdict": seen.verdict, "reason": seen.reason}
                yield [*found, Event("end", told, shown_cursors(seen.cursors))]
                return
            yield found
            after_seconds = 0.0 if seen.more else LOOK_SECONDS

    async def _look(self, database: Database, trial_id: str, after_seconds: float) -> Look | None:
        """``None``: there is nothing for this actor to see any more."""
        seen = await self.looks.take(database, trial_id, self.cursors, after_seconds=after_seconds)
        # Rights of after the look: it shows nothing to whoever had lost them before it.
        epoch = (await database.epochs()).access
        if epoch != self.epoch or time.monotonic() >= self.actor.until:
            try:
                self.actor = await authenticate_caller(self.request)
            except SeatrialError:
                return None
            self.epoch = epoch
        if seen is None:
            return None
        readable = reads_trials(self.actor, seen.repository, seen.visibility)
        writes = may_read_log(self.actor, repository=seen.repository, visibility=seen.visibility)
        return seen if readable and writes else None


def written(event: Event) -> str:
    """An event as the API sends it."""
    # JSON has neither ends of lines nor control characters, whatever the image wrote.
    return framed(event, json.dumps(event.data, ensure_ascii=True))


def framed(event: Event, data: str) -> str:
    """An event with this as its data, in which only ``\\n`` may end a line (WHATWG HTML, 9.2.6)."""
    named = "" if event.id is None else f"id: {event.id}\n"
    lines = "".join(f"data: {line}\n" for line in data.split("\n"))
    return f"{named}event: {event.kind}\n{lines}\n"


def shown_cursors(cursors: Sequence[Cursor]) -> str:
    """The cursors as an event's id."""
    return ",".join(f"{cursor.attempt}.{cursor.run}.{cursor.position}" for cursor in cursors)


def parse_cursors(text: str) -> Sequence[Cursor]:
    """The cursors that an event's id stands for; without one, those before everything.

    Raises:
        RequestInvalidError: it is no such id.
    """
    if not text:
        return ()
    found = [_CURSOR.fullmatch(one) for one in text.split(",", _PARTS_MAX)]
    if None in found:
        raise RequestInvalidError("Last-Event-ID is none of this stream")
    return [Cursor(*map(int, one.groups())) for one in found if one is not None]


ROUTES = (
    Route(
        "GET",
        "/trials/{trial_id}/log/live",
        "anyone",
        follow_log,
        errors=(NotFoundError, TooManyRequestsError),
        media_type=EVENT_STREAM,
    ),
)
