"""What a repository's administrator decides about trials and the gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.access import require_writable
from registry.auth.actor import Actor
from registry.auth.owners import require_or_tell
from registry.auth.places import Place
from registry.content import quotas
from registry.content import repositories as repos
from registry.content.administration import RepositoryChange, find, require_operator_right, tag_of_row
from registry.content.tagpatterns import patterns_of
from registry.db.content import repositories
from registry.db.engine import Database, move_epoch
from registry.db.outbox import record
from registry.errors import ConflictError, NameUnknownError, RequestInvalidError
from registry.oci.conditions import NO_CONDITIONS, Conditions
from registry.oci.names import parse_repository_name
from registry.settings import Settings
from registry.trials.grandfathering import grandfather_all
from registry.trials.requests import try_pending_anew
from registry.trials.specs import spec_digest
from registry.trials.states import STRICTNESS
from registry.trials.turning import tell_deadlines


async def change(
    database: Database,
    settings: Settings,
    *,
    actor: Actor,
    name: str,
    wanted: RepositoryChange,
    conditions: Conditions = NO_CONDITIONS,
) -> None:
    """Change a repository. When its gate is turned on or made stricter, untried images from before stay
    admitted for ``grandfather_days``.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer, or no administrator and changes what only
            they do.
        NameUnknownError: there is none.
        PreconditionFailedError: ``conditions`` do not hold.
        RequestInvalidError: a run spec given and cleared at once.
    """
    await find(database, actor=actor, action="configure", name=name)
    require_operator_right(actor, wanted)
    if wanted.run_spec is not None and wanted.clear_run_spec:
        raise RequestInvalidError("a run spec cannot be set and cleared at once")
    async with database.write() as connection:
        row = await _locked(connection, name)
        if row is None:
            raise NameUnknownError(f"there is no repository {name}")
        conditions.require(tag_of_row(row), f"repository {name}")
        await _change(connection, settings, row, wanted.values(), actor=actor)


async def put(
    database: Database,
    settings: Settings,
    *,
    actor: Actor,
    name: str,
    wanted: RepositoryChange,
    conditions: Conditions,
) -> bool:
    """Have a repository as ``wanted``, for the rest as a new one would be, but for what only administrators
    change, which is left where nothing is said of it. True: it is new.

    Raises:
        UnauthorizedError, DeniedError: as :func:`change`, or as of making one.
        NameInvalidError: outside the grammar.
        PreconditionFailedError: ``conditions`` do not hold.
        ConflictError: somebody makes it just now.
    """
    found = await repos.find(database, parse_repository_name(name))
    await require_or_tell(database, actor, "configure", name, found.visibility if found else None)
    require_operator_right(actor, wanted)
    async with database.write() as connection:
        row = await _locked(connection, name)
        conditions.require(None if row is None else tag_of_row(row), f"repository {name}")
        defaults = await repos.defaults_for(connection, name, settings)
        values = {**defaults.columns, **wanted.values()}
        if row is None:
            require_writable(read_only=settings.read_only)
            if not await repos.insert(connection, name, values, settings=settings, actor=actor):
                raise ConflictError(f"there is a repository {name} already; look at it and try again")
            return True
        of_a_new_one = {
            "trial_on_push": settings.trial_on_push,
            "trial_tags": None,
            "image_spec_allowed": False,
            "run_spec": None,
            "worker_label": None,
            "turned_bad": None,
            "turned_bad_days": None,
        }
        await _change(connection, settings, row, of_a_new_one | values, actor=actor)
        return False


async def _locked(connection: AsyncConnection, name: str) -> Row[Any] | None:
    found = await connection.execute(
        select(repositories).where(repositories.c.name == name).with_for_update(key_share=True)
    )
    return found.one_or_none()


async def _change(
    connection: AsyncConnection, settings: Settings, row: Row[Any], values: Mapping[str, Any], *, actor: Actor
) -> None:
    changes = {column: value for column, value in values.items() if getattr(row, column) != value}
    if not changes:
        return
    if "image_spec_allowed" in changes:
        # The same run spec now means something else: verdicts from before do not answer it.
        changes["policy_version"] = row.policy_version + 1
    await connection.execute(update(repositories).where(repositories.c.id == row.id).values(changes))
    if "run_spec" in changes or "policy_version" in changes:
        await try_pending_anew(connection, settings, row.id)
    if "gate" in changes and STRICTNESS[changes["gate"]] > STRICTNESS[row.gate]:
        await grandfather_all(connection, row.id, settings.grandfather_days)
    if "turned_bad" in changes or "turned_bad_days" in changes:
        await tell_deadlines(connection, row.id, row.name)
    told = {column: [getattr(row, column), value] for column, value in changes.items()}
    if "run_spec" in told:
        # It may be long; verdicts name it so too.
        told["run_spec"] = [None if spec is None else spec_digest(spec) for spec in told["run_spec"]]
    if "trial_tags" in told:
        told["trial_tags"] = [patterns_of(stored) for stored in told["trial_tags"]]
    await record(connection, "repository.changed", row.name, actor, told)
    if (most := changes.get("quota_bytes")) is not None:
        quota = quotas.Quota(Place(row.name, is_namespace=False), "bytes", most)
        held = await quotas.usage_of(connection, row.id)
        await quotas.tell_limited(connection, quota, row.quota_bytes, held.bytes)
    await move_epoch(connection, "access", "gate")
