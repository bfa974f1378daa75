"""What a repository's administrator decides about trials and the gate."""

from __future__ import annotations

from sqlalchemy import select, update

from registry.auth.actor import Actor
from registry.content.administration import RepositoryChange, find, require_quota_right
from registry.db.content import repositories
from registry.db.engine import Database, move_epoch
from registry.db.outbox import record
from registry.errors import NameUnknownError, RequestInvalidError
from registry.settings import Settings
from registry.trials.requests import try_pending_anew
from registry.trials.specs import spec_digest
from registry.trials.states import grandfather

_STRICTNESS = ("off", "warn", "enforce")


async def change(
    database: Database, settings: Settings, *, actor: Actor, name: str, wanted: RepositoryChange
) -> None:
    """Change a repository. When its gate is turned on or made stricter, untried images from before stay
    admitted for ``grandfather_days``.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer; of a quota, no administrator.
        NameUnknownError: there is none.
        RequestInvalidError: a run spec given and cleared at once.
    """
    await find(database, actor=actor, action="configure", name=name)
    require_quota_right(actor, wanted)
    if wanted.run_spec is not None and wanted.clear_run_spec:
        raise RequestInvalidError("a run spec cannot be set and cleared at once")
    async with database.write() as connection:
        found = await connection.execute(
            select(repositories).where(repositories.c.name == name).with_for_update(key_share=True)
        )
        row = found.one_or_none()
        if row is None:
            raise NameUnknownError(f"there is no repository {name}")
        changes = {
            column: value for column, value in wanted.values().items() if getattr(row, column) != value
        }
        if not changes:
            return
        if "image_spec_allowed" in changes:
            # The same run spec now means something else: verdicts from before do not answer it.
            changes["policy_version"] = row.policy_version + 1
        await connection.execute(update(repositories).where(repositories.c.id == row.id).values(changes))
        if "run_spec" in changes or "policy_version" in changes:
            await try_pending_anew(connection, settings, row.id)
        if "gate" in changes and _STRICTNESS.index(changes["gate"]) > _STRICTNESS.index(row.gate):
            await grandfather(connection, row.id, settings.grandfather_days)
        told = {column: [getattr(row, column), value] for column, value in changes.items()}
        if "run_spec" in told:
            # It may be long; verdicts name it so too.
            told["run_spec"] = [None if spec is None else spec_digest(spec) for spec in told["run_spec"]]
        await record(connection, "repository.changed", name, actor, told)
        await move_epoch(connection, "access", "gate")
