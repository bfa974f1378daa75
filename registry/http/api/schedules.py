"""``/api/v1/schedules``: when images are tried again."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from registry.content.recurring import HOURS_MAX
from registry.errors import ConflictError, NameInvalidError, NameUnknownError, NotFoundError
from registry.http.api.fields import Id, PlaceKey
from registry.http.api.models import Body, Query
from registry.http.api.reasons import numbered
from registry.http.api.routes import Call, Route
from registry.trials import schedules as use


class ScheduleQuery(Query):
    """The schedules of which place."""

    on: PlaceKey


class NewSchedule(Body):
    """Every so many hours, or each day at a time of UTC."""

    on: PlaceKey
    every_hours: int | None = Field(default=None, ge=1, le=HOURS_MAX)
    at: str | None = Field(default=None, max_length=5, description="A time of day, UTC.", examples=["02:30"])
    older_hours: int | None = Field(
        default=None,
        ge=0,
        le=HOURS_MAX,
        description="How old a verdict must be then; left out, half of the time between two.",
    )


async def list_schedules(call: Call, query: ScheduleQuery) -> Sequence[use.Schedule]:
    """When images of a repository, or of all below a namespace, are tried again.

    Those on namespaces above count as well."""
    return await use.list_schedules(call.services.database, actor=call.actor, on=query.on)


async def create_schedule(call: Call, body: NewSchedule) -> use.Schedule:
    """Have images that a tag names tried again and again, after all else that waits.

    A place has no two schedules that are equal."""
    wanted = use.Wanted(body.every_hours, body.at, body.older_hours)
    return await use.create(call.services.database, actor=call.actor, on=body.on, wanted=wanted)


async def delete_schedule(call: Call, schedule_id: Id) -> None:
    """Have a schedule no longer."""
    number = numbered(schedule_id, "schedule")
    await use.remove(call.services.database, actor=call.actor, schedule_id=number)


_NOWHERE = (NameInvalidError, NameUnknownError, NotFoundError)
ROUTES = (
    Route("GET", "/schedules", "anyone", list_schedules, errors=_NOWHERE),
    Route("POST", "/schedules", "anyone", create_schedule, status=201, errors=(*_NOWHERE, ConflictError)),
    Route("DELETE", "/schedules/{schedule_id}", "anyone", delete_schedule, errors=(NotFoundError,)),
)
