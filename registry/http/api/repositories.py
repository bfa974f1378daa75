"""``/api/v1/repositories``: what holds images, who may see it, and what a verdict does there."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from registry.auth.policy import Visibility
from registry.content import administration as use
from registry.content.repositories import TurnedBad
from registry.content.taghistory import LINES_MAX
from registry.errors import ConflictError, NameInvalidError, NameUnknownError
from registry.http.api.fields import NamespaceName, RepositoryName
from registry.http.api.models import Body, Page, PageQuery, Stored
from registry.http.api.routes import Call, Route, given_run_spec
from registry.oci.conditions import Conditions
from registry.settings import Gate
from registry.trials import repositorypolicy as policy
from registry.trials.services import with_digests


class RepositoryChange(Body):
    """What to change; a run spec is an object or YAML. Null takes away what can be left out."""

    visibility: Visibility | None = None
    gate: Gate | None = None
    trial_on_push: bool | None = None
    trial_tags: list[str] | None = Field(
        default=None,
        description="Tags, or patterns with `*`; a push under none of them is not tried. Null: all are.",
    )
    scan: bool | None = Field(default=None, description="Whether images are scanned when they are tried.")
    image_spec_allowed: bool | None = None
    run_spec: dict[str, Any] | str | None = None
    worker_label: str | None = Field(
        default=None, description="What a worker must be labelled with to try its images."
    )
    turned_bad: TurnedBad | None = Field(
        default=None,
        description="What an image does that passed and turns bad; null is `block`.",
    )
    turned_bad_days: int | None = Field(
        default=None, ge=0, le=3650, description="How many days before it is blocked; null is 0."
    )
    trial_keep_days: int | None = Field(
        default=None,
        ge=1,
        le=36500,
        description="Days that its trials are kept; null is as the settings say. For administrators.",
    )
    log_keep_bytes: int | None = Field(
        default=None,
        ge=0,
        le=2**62,
        description="How much of the logs of its runs is kept, the newest; null is as the settings say. For "
        "administrators.",
    )
    history_keep_days: int | None = Field(
        default=None,
        ge=1,
        le=36500,
        description="Days that a history says where a tag stood, after it moved on; null is for ever. "
        "For administrators.",
    )
    history_keep_lines: int | None = Field(
        default=None,
        ge=1,
        le=LINES_MAX,
        description=f"How many moves of each tag are kept; null is {LINES_MAX}. For administrators.",
    )
    quota_bytes: int | None = Field(default=None, ge=0, le=2**62)


class NewRepository(RepositoryChange):
    """A repository to make, empty; what is left out is as the settings say."""

    name: RepositoryName


class RepositoriesQuery(PageQuery):
    """Which repositories: all, or those below a namespace."""

    namespace: NamespaceName | None = None


class Rename(Body):
    """The whole new name."""

    name: RepositoryName


class Transfer(Body):
    """Where it goes; the last part of its name stays."""

    namespace: NamespaceName


async def create_repository(call: Call, body: NewRepository) -> use.RepositoryDetails:
    """Make an empty repository."""
    wanted = await _wanted(call, body)
    services = call.services
    await use.create(services.database, services.settings, actor=call.actor, name=body.name, wanted=wanted)
    return await use.show(services.database, actor=call.actor, name=body.name)


async def list_repositories(call: Call, query: RepositoriesQuery) -> Page[use.RepositoryDetails]:
    """Those that the caller may pull from, by name."""
    found = await use.list_readable(
        call.services.database,
        actor=call.actor,
        limit=query.limit + 1,
        after=query.cursor,
        namespace=query.namespace,
    )
    return query.page(found, key=lambda repository: repository.name)


async def show_repository(call: Call, name: RepositoryName) -> use.RepositoryDetails:
    """All about one repository."""
    return await use.show(call.services.database, actor=call.actor, name=name)


async def put_repository(
    call: Call, name: RepositoryName, body: RepositoryChange, conditions: Conditions
) -> Stored[use.RepositoryDetails]:
    """Have a repository as it is described.

    What is left out is as for a new one, but for what only administrators change, which stays as it is.
    """
    wanted = await _wanted(call, body)
    services = call.services
    is_new = await policy.put(
        services.database,
        services.settings,
        actor=call.actor,
        name=name,
        wanted=wanted,
        conditions=conditions,
    )
    return Stored(await use.show(services.database, actor=call.actor, name=name), is_new)


async def change_repository(
    call: Call, name: RepositoryName, body: RepositoryChange, conditions: Conditions
) -> use.RepositoryDetails:
    """Change its visibility, its gate, or what is tried in it."""
    wanted = await _wanted(call, body)
    services = call.services
    await policy.change(
        services.database,
        services.settings,
        actor=call.actor,
        name=name,
        wanted=wanted,
        conditions=conditions,
    )
    return await use.show(services.database, actor=call.actor, name=name)


async def delete_repository(call: Call, name: RepositoryName, conditions: Conditions) -> None:
    """Remove it with all it holds."""
    services = call.services
    await use.delete(
        services.database,
        services.blobs,
        services.settings,
        actor=call.actor,
        name=name,
        conditions=conditions,
    )


async def rename_repository(call: Call, name: RepositoryName, body: Rename) -> use.RepositoryDetails:
    """Give it another name, in its namespace or in another one.

    Nothing leads from the old name to the new one, and tokens that name the old one open nothing any more.
    """
    return await _move(call, name, body.name)


async def transfer_repository(call: Call, name: RepositoryName, body: Transfer) -> use.RepositoryDetails:
    """Move it to another namespace.

    As a rename, with the last part of the name as it is.
    """
    return await _move(call, name, f"{body.namespace}/{name.rpartition('/')[2]}")


async def _move(call: Call, name: str, to: str) -> use.RepositoryDetails:
    services = call.services
    await use.move(
        services.database, services.settings, actor=call.actor, name=name, to=to, effects=services.effects
    )
    return await use.show(services.database, actor=call.actor, name=to)


async def _wanted(call: Call, body: RepositoryChange) -> use.RepositoryChange:
    run_spec = await given_run_spec(call.request.app, body.run_spec)
    if run_spec is not None:
        services = call.services
        run_spec = await with_digests(services.database, services.settings, actor=call.actor, spec=run_spec)
    return use.RepositoryChange(
        visibility=body.visibility,
        gate=body.gate,
        trial_on_push=body.trial_on_push,
        trial_tags=body.trial_tags,
        clear_trial_tags=body.clears("trial_tags"),
        scan=body.scan,
        image_spec_allowed=body.image_spec_allowed,
        run_spec=run_spec,
        clear_run_spec=body.clears("run_spec"),
        worker_label=body.worker_label,
        clear_worker_label=body.clears("worker_label"),
        turned_bad=body.turned_bad,
        clear_turned_bad=body.clears("turned_bad"),
        turned_bad_days=body.turned_bad_days,
        clear_turned_bad_days=body.clears("turned_bad_days"),
        trial_keep_days=body.trial_keep_days,
        clear_trial_keep_days=body.clears("trial_keep_days"),
        log_keep_bytes=body.log_keep_bytes,
        clear_log_keep_bytes=body.clears("log_keep_bytes"),
        history_keep_days=body.history_keep_days,
        clear_history_keep_days=body.clears("history_keep_days"),
        history_keep_lines=body.history_keep_lines,
        clear_history_keep_lines=body.clears("history_keep_lines"),
        quota_bytes=body.quota_bytes,
        clear_quota=body.clears("quota_bytes"),
    )


ROUTES = (
    Route("POST", "/repositories", "anyone", create_repository, status=201, errors=(ConflictError,)),
    Route("GET", "/repositories", "anyone", list_repositories, errors=(NameInvalidError,)),
    Route("GET", "/repositories/{name}", "anyone", show_repository, errors=(NameUnknownError,)),
    Route("PUT", "/repositories/{name}", "anyone", put_repository, errors=(NameInvalidError, ConflictError)),
    Route("PATCH", "/repositories/{name}", "anyone", change_repository, errors=(NameUnknownError,)),
    *(
        Route(
            "POST",
            f"/repositories/{{name}}/{word}",
            "anyone",
            handler,
            errors=(NameUnknownError, NameInvalidError, ConflictError),
        )
        for word, handler in (("rename", rename_repository), ("transfer", transfer_repository))
    ),
    Route("DELETE", "/repositories/{name}", "anyone", delete_repository, errors=(NameUnknownError,)),
)
