"""``/api/v1/repositories/{name}/tags``: where tags stand, where they stood, and back."""

from __future__ import annotations

from registry.auth.access import require, require_writable
from registry.auth.policy import Action
from registry.content import tagmoves as use
from registry.content import tags as tag_use
from registry.content.administration import find_readable
from registry.content.repositories import Repository
from registry.http.api.routes import Body, Call, Route, page, shown_time
from registry.oci.digest import parse_content_digest
from registry.oci.names import parse_tag


class Rollback(Body):
    """Where to; without it, to where the tag stood before its last move."""

    to: str | None = None


async def list_tags(call: Call) -> object:
    """All tags of a repository, by name."""
    repository = await _repository(call, "pull")
    asked = page(call.query("limit", "cursor"))
    found = await use.list_tags(call.services.database, repository, limit=asked.limit + 1, after=asked.after)
    return asked.answer(found, key=lambda tag: tag.name, show=_shown)


async def show_tag(call: Call) -> object:
    """Where one tag stands."""
    repository = await _repository(call, "pull")
    call.query()
    return _shown(await use.show(call.services.database, repository, parse_tag(call.path("tag"))))


async def show_history(call: Call) -> object:
    """The moves of a tag, newest first; also of one that is no more."""
    repository = await _repository(call, "pull")
    asked = page(call.query("limit"))
    moves = await tag_use.history(
        call.services.database, repository, parse_tag(call.path("tag")), limit=asked.limit
    )
    return {
        "items": [
            {
                "action": move.action,
                "old_digest": move.old_digest,
                "new_digest": move.new_digest,
                "actor": move.actor,
                "at": shown_time(move.at),
            }
            for move in moves
        ],
        "next": None,
    }


async def roll_back(call: Call) -> object:
    """Point a tag at where it stood before."""
    repository = await _repository(call, "push")
    body = await call.body(Rollback)
    to = None if body.to is None else parse_content_digest(body.to)
    tag = parse_tag(call.path("tag"))
    await use.roll_back(call.services.database, repository, tag, to=to, actor=call.actor)
    return _shown(await use.show(call.services.database, repository, tag))


async def delete_tag(call: Call) -> object:
    """Remove a tag and nothing else."""
    repository = await _repository(call, "delete")
    call.query()
    await tag_use.delete(call.services.database, repository, parse_tag(call.path("tag")), actor=call.actor)
    return None


async def _repository(call: Call, action: Action) -> Repository:
    repository = await find_readable(call.services.database, actor=call.actor, name=call.path("name"))
    require(call.actor, action, repository.name, repository.visibility)
    if action != "pull":
        require_writable(read_only=call.services.settings.read_only)
    return repository


def _shown(tag: use.TagDetails) -> dict[str, object]:
    return {
        "name": tag.name,
        "digest": tag.digest,
        "media_type": tag.media_type,
        "size": tag.size,
        "updated_at": shown_time(tag.updated_at),
        "updated_by": tag.updated_by,
    }


ROUTES = (
    Route("GET", "/repositories/{name}/tags", "anyone", list_tags),
    Route("GET", "/repositories/{name}/tags/{tag}", "anyone", show_tag),
    Route("DELETE", "/repositories/{name}/tags/{tag}", "anyone", delete_tag),
    Route("GET", "/repositories/{name}/tags/{tag}/history", "anyone", show_history),
    Route("POST", "/repositories/{name}/tags/{tag}/rollback", "anyone", roll_back),
)
