"""``/api/v1/namespaces``: where roles are given, and what new repositories are like there."""

from __future__ import annotations

from pydantic import Field

from registry.auth.policy import Visibility
from registry.content import namespaces as use
from registry.errors import ConflictError, NameInvalidError, NotFoundError
from registry.http.api.fields import NamespaceName
from registry.http.api.models import Body, Page, PageQuery, Query, Stored
from registry.http.api.routes import Call, Route
from registry.oci.conditions import Conditions
from registry.settings import Gate

CAP_MAX = 10**9


class NamespaceChange(Body):
    """What it says of new repositories. Null lets a namespace above say, or else the settings."""

    visibility: Visibility | None = None
    create_on_push: bool | None = None
    gate: Gate | None = None
    scan: bool | None = Field(
        default=None, description="Whether images of new repositories are scanned when they are tried."
    )
    waivers_by_two: bool | None = Field(
        default=None,
        description="Whether somebody else than who asked has to grant a waiver, in all repositories below.",
    )
    promotions_by_two: bool | None = Field(
        default=None,
        description="Whether somebody else than who asked has to grant what is promoted into them.",
    )
    trial_queue_max: int | None = Field(
        default=None,
        ge=1,
        le=CAP_MAX,
        description="How many images below it may wait to be tried before more are refused that somebody "
        "asks for; for administrators.",
    )
    trial_seconds_per_hour: int | None = Field(
        default=None,
        ge=1,
        le=CAP_MAX,
        description="Seconds of runs below it within an hour, before the next ones wait; for administrators.",
    )


class NewNamespace(NamespaceChange):
    """A namespace to make."""

    name: NamespaceName


class NewName(Body):
    """The other name."""

    name: NamespaceName


class Deletion(Query):
    """Whether a namespace is deleted that is not empty."""

    with_content: bool = Field(default=False, description="Delete also all that is below it.")


async def create_namespace(call: Call, body: NewNamespace) -> use.NamespaceDetails:
    """Make a namespace.

    The first repository in it makes one too.
    """
    wanted = _wanted(body)
    await use.create(call.services.database, actor=call.actor, name=body.name, wanted=wanted)
    return await use.show(call.services.database, actor=call.actor, name=body.name)


async def list_namespaces(call: Call, query: PageQuery) -> Page[use.Namespace]:
    """Those that the caller has a role on, by name.

    Administrators and auditors see all.
    """
    found = await use.list_visible(
        call.services.database, actor=call.actor, limit=query.limit + 1, after=query.cursor
    )
    return query.page(found, key=lambda namespace: namespace.name)


async def show_namespace(call: Call, name: NamespaceName) -> use.NamespaceDetails:
    """One namespace, and how much is below it."""
    return await use.show(call.services.database, actor=call.actor, name=name)


async def put_namespace(
    call: Call, name: NamespaceName, body: NamespaceChange, conditions: Conditions
) -> Stored[use.NamespaceDetails]:
    """Have a namespace as it is described.

    What is left out is what a namespace above says, or else the settings; caps on trials stay as they are.
    """
    database = call.services.database
    is_new = await use.put(database, actor=call.actor, name=name, wanted=_wanted(body), conditions=conditions)
    return Stored(await use.show(database, actor=call.actor, name=name), is_new)


async def change_namespace(
    call: Call, name: NamespaceName, body: NamespaceChange, conditions: Conditions
) -> use.NamespaceDetails:
    """Change what it says of new repositories."""
    database = call.services.database
    await use.change(database, actor=call.actor, name=name, wanted=_wanted(body), conditions=conditions)
    return await use.show(database, actor=call.actor, name=name)


async def rename_namespace(call: Call, name: NamespaceName, body: NewName) -> use.NamespaceDetails:
    """Give a namespace another name, and with it all that is below it: repositories, robots, roles."""
    services = call.services
    await use.rename(
        services.database,
        services.settings,
        actor=call.actor,
        name=name,
        to=body.name,
        effects=services.effects,
    )
    return await use.show(services.database, actor=call.actor, name=body.name)


async def delete_namespace(call: Call, name: NamespaceName, query: Deletion) -> None:
    """Remove an empty namespace, with its robots and the roles on it.

    With content, all that is below it goes first: one repository at a time, and whoever is interrupted asks
    again.
    """
    services = call.services
    await use.delete(
        services.database,
        services.blobs,
        services.settings,
        actor=call.actor,
        name=name,
        with_content=query.with_content,
    )


def _wanted(body: NamespaceChange) -> use.NamespaceChange:
    return use.NamespaceChange(
        visibility=body.visibility,
        clear_visibility=body.clears("visibility"),
        create_on_push=body.create_on_push,
        clear_create_on_push=body.clears("create_on_push"),
        gate=body.gate,
        clear_gate=body.clears("gate"),
        scan=body.scan,
        clear_scan=body.clears("scan"),
        waivers_by_two=body.waivers_by_two,
        clear_waivers_by_two=body.clears("waivers_by_two"),
        promotions_by_two=body.promotions_by_two,
        clear_promotions_by_two=body.clears("promotions_by_two"),
        trial_queue_max=body.trial_queue_max,
        clear_trial_queue_max=body.clears("trial_queue_max"),
        trial_seconds_per_hour=body.trial_seconds_per_hour,
        clear_trial_seconds_per_hour=body.clears("trial_seconds_per_hour"),
    )


_GONE = (NotFoundError,)
ROUTES = (
    Route(
        "POST",
        "/namespaces",
        "anyone",
        create_namespace,
        status=201,
        errors=(ConflictError, NameInvalidError),
    ),
    Route("GET", "/namespaces", "anyone", list_namespaces),
    Route("GET", "/namespaces/{name}", "anyone", show_namespace, errors=_GONE),
    Route("PUT", "/namespaces/{name}", "anyone", put_namespace, errors=(ConflictError, NameInvalidError)),
    Route("PATCH", "/namespaces/{name}", "anyone", change_namespace, errors=_GONE),
    Route(
        "POST",
        "/namespaces/{name}/rename",
        "anyone",
        rename_namespace,
        errors=(*_GONE, ConflictError, NameInvalidError),
    ),
    Route("DELETE", "/namespaces/{name}", "anyone", delete_namespace, errors=(*_GONE, ConflictError)),
)
