"""One authorised request to the distribution API, as its handler gets it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry.auth.owners import require_or_tell
from registry.content import repositories as repos

if TYPE_CHECKING:
    from aiohttp import web

    from registry.auth.actor import Actor
    from registry.content.repositories import Repository
    from registry.db.epochlook import Epochs
    from registry.http.services import Services


@dataclass(frozen=True, slots=True)
class Call:
    """``actor`` may do the row's action in the repository ``name``; ``repository`` is ``None`` where there is
    none yet. ``reference`` is what follows the keyword, not yet checked. ``epochs`` are from before any of
    this was looked up."""

    request: web.Request
    services: Services
    actor: Actor
    name: str
    reference: str
    repository: Repository | None
    epochs: Epochs

    async def pusher_now(self) -> Actor:
        """The actor of a push once its body is there: whoever sends that slowly may have lost his rights.

        Raises:
            UnauthorizedError: disabled, revoked or given a new password since the request came.
            DeniedError: without the right by now.
        """
        database = self.services.database
        if (await database.epochs()).access == self.epochs.access:
            return self.actor
        actor = await self.services.tokens.as_now(self.actor)
        repository = await repos.find(database, self.name)
        visibility = repository.visibility if repository else None
        await require_or_tell(database, actor, "push", self.name, visibility)
        return actor
