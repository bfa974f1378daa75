"""What the handlers work with: made once by the composition root, frozen, found on the application."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from registry.auth.livesessions import LiveSessions
    from registry.auth.oidc.opened import Oidc
    from registry.auth.secretkey import SecretKey
    from registry.auth.tokenservice import TokenService
    from registry.content.effects import Effects
    from registry.db.engine import Database
    from registry.events.courier import Courier
    from registry.events.pulls import PullCounts
    from registry.events.refusals import Refusals
    from registry.net.guarded import GuardedClient
    from registry.settings import Settings
    from registry.storage.store import BlobStore
    from registry.trials.waiting import Waiters


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one registry process."""

    settings: Settings
    database: Database
    blobs: BlobStore
    tokens: TokenService
    sessions: LiveSessions
    effects: Effects
    pulls: PullCounts
    refusals: Refusals
    outgoing: GuardedClient
    oidc: Oidc
    secret_key: SecretKey
    courier: Courier
    waiters: Waiters


SERVICES = web.AppKey("services", Services)
"""Where a handler finds them: ``request.app[SERVICES]``."""
