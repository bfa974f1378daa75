"""One authorised request to the distribution API, as its handler gets it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
