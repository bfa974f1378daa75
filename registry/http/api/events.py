"""``/api/v1/events``: the feed of events, read on from a cursor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import Field

from registry.errors import NameUnknownError, TooManyRequestsError
from registry.events import feed as use
from registry.http.api.fields import RepositoryName
from registry.http.api.models import Answer, Query
from registry.http.api.routes import Call, Route
from registry.oci.names import parse_repository_name
from registry.trials.waiting import looks

WAIT_MAX_SECONDS = 60.0


class EventsQuery(Query):
    """Where to read on, and what."""

    cursor: str | None = Field(
        default=None,
        pattern="^([0-9]{1,17}|now)$",
        description="The `cursor` of the answer before; `now`: only what comes; left out: from the oldest.",
    )
    wait: float = Field(
        default=0, ge=0, le=WAIT_MAX_SECONDS, description="Seconds to wait for something where there is none."
    )
    repository: RepositoryName | None = Field(
        default=None,
        description="Of this repository; whoever may pull from it reads what concerns its images.",
    )
    kind: str | None = Field(
        default=None,
        max_length=500,
        pattern="^[a-z_.*]+(,[a-z_.*]+)*$",
        description="Kinds, with commas between them; `*` is any text.",
    )
    limit: int = Field(default=100, ge=1, le=1000, description="How many events at most.")


class Event(Answer):
    """One event. `position` counts up, with gaps, in the order in which events became known."""

    position: int
    kind: str
    at: datetime
    repository: str | None
    target: str | None
    actor: str
    actor_kind: str | None
    decision: str
    rule: str | None
    data: Mapping[str, Any]


class Feed(Answer):
    """A part of the feed. `cursor` is that of the next request, whether or not there were events.
    `missed`: some of those after the cursor that was given are no longer kept. `more`: there are more."""

    items: Sequence[Event]
    cursor: str
    missed: bool
    more: bool


async def read_events(call: Call, query: EventsQuery) -> Feed:
    """Events in their order, those after a cursor; none is passed over, whenever it is read on.

    An answer without events has a cursor too, which may be further: go on with it.
    """
    with call.services.waiters.room(call.actor, seconds=query.wait):
        page = await use.follow(
            call.services.database,
            looks(call.services.courier, seconds=query.wait),
            actor=call.actor,
            repository=None if query.repository is None else parse_repository_name(query.repository),
            kinds=query.kind.split(",") if query.kind else (),
            cursor=query.cursor,
            limit=query.limit,
        )
    return Feed.of(page)


ROUTES = (Route("GET", "/events", "anyone", read_events, errors=(NameUnknownError, TooManyRequestsError)),)
