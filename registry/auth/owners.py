"""Who can be asked for a right: for those who may know it, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, func, or_, select, union_all

from registry.auth.access import require
from registry.auth.policy import decide, namespaces_above
from registry.db.access import grants, groups, namespaces
from registry.db.accounts import accounts
from registry.db.content import repositories
from registry.errors import DeniedError

if TYPE_CHECKING:
    from registry.auth.actor import Actor
    from registry.auth.policy import Action, Visibility
    from registry.db.engine import Database

NAMED_MAX = 3


async def require_or_tell(
    database: Database, actor: Actor, action: Action, name: str, visibility: Visibility | None
) -> None:
    """As :func:`require`; whoever may see the repository is also told who its owners are.

    Raises:
        UnauthorizedError, DeniedError: as there.
    """
    try:
        require(actor, action, name, visibility)
    except DeniedError as error:
        # By the credential: a registry token lacks also what was refused when it was made.
        decision = decide(actor.by_credential, action, name, visibility)
        if decision.rule == "nothing" and decision.sees:
            found = await owners_of(database, name)
            error.message += f": {', '.join(found)}" if found else ""
        raise


async def owners_of(database: Database, name: str) -> list[str]:
    """Some owners of a repository, or of a namespace with a slash at its end, or of one above."""
    above = namespaces_above(name)
    shown = func.coalesce(accounts.c.name, "group " + groups.c.name).label("shown")
    owning = select(grants.c.account_id, grants.c.group_id).where(grants.c.role == "owner")
    held = union_all(
        owning.join(namespaces, namespaces.c.id == grants.c.namespace_id).where(namespaces.c.name.in_(above)),
        owning.join(repositories, repositories.c.id == grants.c.repository_id).where(
            repositories.c.name == name
        ),
    ).subquery("held")
    query = (
        select(shown)
        .select_from(held)
        .outerjoin(accounts, accounts.c.id == held.c.account_id)
        .outerjoin(groups, groups.c.id == held.c.group_id)
        .where(
            or_(groups.c.id.is_not(None), and_(accounts.c.kind == "user", accounts.c.disabled_at.is_(None)))
        )
        .distinct()
        .order_by(shown)
        .limit(NAMED_MAX)
    )
    async with database.read_once() as connection:
        return list((await connection.execute(query)).scalars())
