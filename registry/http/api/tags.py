"""``/api/v1/repositories/{name}/tags``: where tags stand, where they stood, and back."""

from __future__ import annotations

from datetime import datetime

from registry.auth.access import require_writable
from registry.auth.actor import Workload
from registry.auth.policy import Action
from registry.content import tagmoves as use
from registry.content import tags as tag_use
from registry.content.administration import find
from registry.content.repositories import Repository
from registry.errors import ConflictError, ManifestUnknownError, NameUnknownError
from registry.http.api.fields import ContentDigest, RepositoryName, TagName
from registry.http.api.models import Answer, Body, Page, PageQuery
from registry.http.api.routes import Call, Route
from registry.oci.conditions import Conditions
from registry.oci.digest import parse_content_digest
from registry.oci.names import parse_tag


class Rollback(Body):
    """Where to; without it, to where the tag stood before its last move."""

    to: ContentDigest | None = None


class Move(Answer):
    """One move of a tag; null stands for no image. `reason` names the promotion that did it, if one did."""

    action: str
    old_digest: str | None
    new_digest: str | None
    actor: str
    workload: Workload | None
    reason: str | None
    at: datetime


async def list_tags(call: Call, name: RepositoryName, query: PageQuery) -> Page[use.TagDetails]:
    """All tags of a repository, by name."""
    repository = await _repository(call, name, "pull")
    found = await use.list_tags(call.services.database, repository, limit=query.limit + 1, after=query.cursor)
    return query.page(found, key=lambda tag: tag.name)


async def show_tag(call: Call, name: RepositoryName, tag: TagName) -> use.TagDetails:
    """Where one tag stands."""
    repository = await _repository(call, name, "pull")
    return await use.show(call.services.database, repository, parse_tag(tag))


async def show_history(call: Call, name: RepositoryName, tag: TagName, query: PageQuery) -> Page[Move]:
    """The moves of a tag, newest first; also of one that is no more."""
    repository = await _repository(call, name, "pull")
    moves = await tag_use.history(
        call.services.database, repository, parse_tag(tag), limit=query.limit + 1, before=query.number
    )
    page = query.page(moves, key=lambda move: str(move.id))
    return Page([Move.of(move) for move in page.items], page.next)


async def roll_back(call: Call, name: RepositoryName, tag: TagName, body: Rollback) -> use.TagDetails:
    """Point a tag at where it stood before."""
    repository = await _repository(call, name, "push")
    to = None if body.to is None else parse_content_digest(body.to)
    services = call.services
    await use.roll_back(
        services.database, repository, parse_tag(tag), to=to, actor=call.actor, effects=services.effects
    )
    return await use.show(services.database, repository, tag)


async def delete_tag(call: Call, name: RepositoryName, tag: TagName, conditions: Conditions) -> None:
    """Remove a tag and nothing else."""
    repository = await _repository(call, name, "delete")
    await tag_use.delete(
        call.services.database, repository, parse_tag(tag), conditions=conditions, actor=call.actor
    )


async def _repository(call: Call, name: str, action: Action) -> Repository:
    repository = await find(call.services.database, actor=call.actor, action=action, name=name)
    if action != "pull":
        require_writable(read_only=call.services.settings.read_only)
    return repository


_GONE = (NameUnknownError, ManifestUnknownError)
ROUTES = (
    Route("GET", "/repositories/{name}/tags", "anyone", list_tags, errors=(NameUnknownError,)),
    Route("GET", "/repositories/{name}/tags/{tag}", "anyone", show_tag, errors=_GONE),
    Route("DELETE", "/repositories/{name}/tags/{tag}", "anyone", delete_tag, errors=_GONE),
    Route(
        "GET", "/repositories/{name}/tags/{tag}/history", "anyone", show_history, errors=(NameUnknownError,)
    ),
    Route(
        "POST",
        "/repositories/{name}/tags/{tag}/rollback",
        "anyone",
        roll_back,
        errors=(*_GONE, ConflictError),
    ),
)
