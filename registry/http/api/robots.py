"""``/api/v1/robots``: the accounts of programs, which belong to a namespace."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from registry.auth import grants
from registry.auth import robots as use
from registry.errors import NotFoundError
from registry.http.api.fields import NamespaceName, RobotName
from registry.http.api.members import Grant
from registry.http.api.models import Answer, Body, Page, PageQuery, Stored
from registry.http.api.routes import Call, Route
from registry.oci.conditions import Conditions


class WantedRobot(Body):
    """What a robot is to be."""

    disabled: bool = False


class RobotsQuery(PageQuery):
    """Which robots: of one namespace, or as an administrator or auditor of all."""

    namespace: NamespaceName | None = None


class Robot(Answer):
    """The account of a program."""

    name: str
    namespace: str
    created_at: datetime
    disabled_at: datetime | None
    etag: str = Field(exclude=True)


async def put_robot(call: Call, name: RobotName, body: WantedRobot, conditions: Conditions) -> Stored[Robot]:
    """Have a robot in a namespace that one owns, disabled or not. ``POST /tokens`` makes it tokens."""
    robot, is_new = await use.put_robot(
        call.services.database,
        call.services.blobs,
        call.services.settings,
        actor=call.actor,
        name=name,
        disabled=body.disabled,
        conditions=conditions,
    )
    return Stored(Robot.of(robot), is_new)


async def list_robots(call: Call, query: RobotsQuery) -> Page[Robot]:
    """The robots of a namespace, not of those below it, by name."""
    found = await use.list_robots(
        call.services.database,
        actor=call.actor,
        namespace_name=query.namespace,
        limit=query.limit + 1,
        after=query.cursor,
    )
    return query.page([Robot.of(robot) for robot in found], key=lambda robot: robot.name)


async def show_robot(call: Call, name: RobotName) -> Robot:
    """One robot."""
    return Robot.of(await use.show_robot(call.services.database, actor=call.actor, name=name))


async def delete_robot(call: Call, name: RobotName, conditions: Conditions) -> None:
    """Remove a robot with its tokens and roles; histories keep its name."""
    services = call.services
    await use.delete_robot(
        services.database, services.blobs, actor=call.actor, name=name, conditions=conditions
    )


async def list_roles_of_robot(call: Call, name: RobotName, query: PageQuery) -> Page[Grant]:
    """The roles that a robot was given, by age."""
    found = await grants.list_grants(
        call.services.database,
        actor=call.actor,
        member=grants.Member("robot", name),
        limit=query.limit + 1,
        after=query.number or 0,
    )
    return query.page([Grant.of(grant) for grant in found], key=lambda grant: str(grant.id))


ROUTES = (
    Route("GET", "/robots", "anyone", list_robots),
    Route("GET", "/robots/{name}", "anyone", show_robot, errors=(NotFoundError,)),
    Route("PUT", "/robots/{name}", "anyone", put_robot, errors=(NotFoundError,)),
    Route("DELETE", "/robots/{name}", "anyone", delete_robot, errors=(NotFoundError,)),
    Route("GET", "/robots/{name}/grants", "anyone", list_roles_of_robot, errors=(NotFoundError,)),
)
