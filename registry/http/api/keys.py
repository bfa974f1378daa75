"""``/api/v1/keys``: the keys that sign, without their private halves."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from registry.auth import keyring as use
from registry.http.api.models import Answer, Body, Page
from registry.http.api.routes import Call, Route


class KeyRotation(Body):
    """``at_once``: all older keys are worth nothing from now on, for when one was stolen. Verdicts, of the
    ring ``attestation``, are signed with ES256."""

    ring: use.Ring = "token"
    algorithm: Literal["ES256", "EdDSA"] | None = None
    at_once: bool = False


class Key(Answer):
    """A key without its private half; retired at a time to come, it verifies until then."""

    kid: str
    ring: str
    algorithm: str
    public_pem: str
    created_at: datetime
    retired_at: datetime | None


async def list_keys(call: Call) -> Page[Key]:
    """Public keys, the newest first: those that verdicts are signed with, for administrators all."""
    found = await use.list_keys(call.services.database, actor=call.actor)
    return Page(items=[Key.of(key) for key in found], next=None)


async def rotate_keys(call: Call, body: KeyRotation) -> Key:
    """Make a new key that signs registry tokens, or verdicts.

    Of registry tokens the older ones verify until all their tokens have ended, of verdicts for ever."""
    services = call.services
    usual = services.settings.token_algorithm if body.ring == "token" else "ES256"
    made = await use.rotate_ring(
        services.database,
        services.secret_key,
        body.ring,
        actor=call.actor,
        algorithm=body.algorithm or usual,
        at_once=body.at_once,
    )
    return Key.of(made)


ROUTES = (
    Route("GET", "/keys", "anyone", list_keys),
    Route("POST", "/keys/rotate", "admin", rotate_keys, status=201),
)
