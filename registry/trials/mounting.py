"""Mounts: a blob that another repository has is linked, if the gate lets the caller read it there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.auth.policy import decide
from registry.content import blobs
from registry.content import repositories as repos
from registry.errors import NameInvalidError
from registry.oci.names import parse_repository_name
from registry.trials.admission import admits_blob

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.auth.actor import Actor
    from registry.content.repositories import Repository
    from registry.db.engine import Database
    from registry.oci.digest import Digest
    from registry.settings import Settings

SOURCES_MAX = 10
"""How many repositories are asked for a blob that a client mounts without saying from where."""


async def mount(
    database: Database, digest: Digest, *, source: str | None, into: str, settings: Settings, actor: Actor
) -> bool:
    """Link the blob in the repository named ``into``: from ``source``, else from wherever the caller may
    read it. False: nothing was mounted, and why is told to nobody; the client uploads the bytes.

    Raises:
        DeniedError: ``into``, or a namespace above, would hold more than its quota.
    """
    # A registry token is asked for before a client knows what it will mount: what counts is its credential.
    reader = actor.by_credential
    readable = [
        found
        for found in await _sources(database, digest, source)
        if decide(reader, "pull", found.name, found.visibility).allowed
    ]
    for found in readable[:SOURCES_MAX]:
        if await admits_blob(
            database, settings, actor=reader, repository=found, digest=digest
        ) and await blobs.mount(database, digest, source=found, into=into, settings=settings, actor=actor):
            return True
    return False


async def _sources(database: Database, digest: Digest, name: str | None) -> Sequence[Repository]:
    if name is None:
        return await blobs.find_elsewhere(database, digest)
    try:
        found = await repos.find(database, parse_repository_name(name))
    except NameInvalidError:
        return ()
    return () if found is None else (found,)
