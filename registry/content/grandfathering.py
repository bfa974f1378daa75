"""What is brought from elsewhere is admitted for a while without a verdict, if somebody says so who may."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select

from registry.auth.policy import decide
from registry.db.types import db_time
from registry.errors import DeniedError, RequestInvalidError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.content.repositories import Repository
    from registry.settings import Settings

_CLOCKS = timedelta(hours=1)
"""How far the clock of who asks may be ahead."""


async def require_grandfathering(
    connection: AsyncConnection, settings: Settings, actor: Actor, repository: Repository, until: datetime
) -> None:
    """Let a push say that its image is admitted until then: to whoever could turn the gate off.

    Raises:
        DeniedError: the actor, or its token, may not configure the repository.
        RequestInvalidError: the time has passed, or is later than the operator allows.
    """
    decision = decide(actor, "configure", repository.name, repository.visibility)
    if not decision.allowed:
        raise DeniedError(
            f"what is pushed is tried first, unless its maintainer says else: {decision.reason}"
        )
    now = (await connection.execute(select(db_time()))).scalar_one()
    days = settings.grandfather_days
    if not now < until <= now + timedelta(days=days) + _CLOCKS:
        raise RequestInvalidError(
            f"images can be admitted without a verdict for {days} days from now at most "
            f"(SEATRIAL_GRANDFATHER_DAYS), and not until {until:%Y-%m-%d %H:%M:%S}"
        )
