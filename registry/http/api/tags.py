"""``/api/v1/repositories/{name}/tags``: where tags stand, where they stood, and back."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field

from registry.auth.access import require_writable
from registry.auth.actor import Workload
from registry.auth.policy import Action, decide
from registry.content import taghistory
from registry.content import tagmoves as use
from registry.content import tags as tag_use
from registry.content.administration import find
from registry.content.repositories import Repository
from registry.content.taghistory import DeletedTag
from registry.content.tagmatching import PATTERN_MAX
from registry.errors import ConflictError, ManifestUnknownError, NameUnknownError
from registry.http.api.fields import ContentDigest, RepositoryName, StandsAt, TagName, TagOrDigest, Time
from registry.http.api.models import Answer, Body, Page, PageQuery, Query
from registry.http.api.reasons import Reason, one_line
from registry.http.api.routes import Call, Route
from registry.http.parsers import PARSERS
from registry.oci.conditions import Conditions
from registry.oci.digest import parse_content_digest
from registry.oci.names import parse_reference, parse_tag
from registry.trials import tagsearch
from registry.trials.asking import max_verdict_age
from registry.trials.gate import EffectiveState


class TagsQuery(PageQuery):
    """Which tags, and in which order."""

    glob: str | None = Field(default=None, max_length=PATTERN_MAX, description="Named so; `*` is any text.")
    regex: str | None = Field(
        default=None, max_length=PATTERN_MAX, description="Whose whole name an RE2 pattern matches."
    )
    semver: str | None = Field(
        default=None,
        max_length=PATTERN_MAX,
        description="Versions in a range: `*`, `stable`, `>=1.2.0 <2`.",
        examples=[">=1.2.0 <2 stable"],
    )
    digest: ContentDigest | None = Field(default=None, description="That stand at this manifest.")
    platform: str | None = Field(
        default=None,
        max_length=100,
        description="Of an image for it, or of an index that lists one; without a variant any is meant.",
    )
    label: str | None = Field(
        default=None,
        max_length=1000,
        description="Of images with a label or annotation `NAME`, or `NAME=VALUE`.",
    )
    state: EffectiveState | None = Field(default=None, description="Of images in this state.")
    signed: Literal["true", "false"] | None = Field(
        default=None, description="Whether a signature of cosign is attached."
    )
    updated_since: Time | None = Field(default=None, description="That moved then, or later.")
    updated_before: Time | None = Field(default=None, description="That have not moved since.")
    order: tagsearch.Order = Field(
        default="name", description="By name; or the last moved, or the newest version first."
    )


class TagQuery(Query):
    """When."""

    at: Time | None = Field(default=None, description="Where it stood then; without it, where it stands.")


class Why(Body):
    """Why, for the tag's history; with `dry_run` all is tried, and nothing of it stays."""

    reason: Reason | None = None
    dry_run: bool = False


class Rollback(Why):
    """Where to; without it, to where the tag stood before its last move."""

    to: ContentDigest | None = None
    stands_at: StandsAt | None = None


class Restoration(Why):
    """Where to; without it, to where the tag stood when it was deleted."""

    to: ContentDigest | None = None


class TagMovement(Why):
    """Where to."""

    to: TagOrDigest
    stands_at: StandsAt | None = None


class TagCopy(Why):
    """What the new tag is called."""

    to: TagName


class DeletionQuery(Query):
    """Why, and whether it is only tried."""

    reason: Reason | None = None
    dry_run: Literal["true", "false"] = "false"


class Move(Answer):
    """One move of a tag; null stands for no image. `reason` names the promotion that did it, if one did, or
    is what somebody gave. `address` and the API token are told to those who manage the repository, and to
    auditors; else, and where there is none, they are null."""

    action: str
    old_digest: str | None
    new_digest: str | None
    actor: str
    workload: Workload | None
    reason: str | None
    at: datetime
    address: str | None
    token_id: str | None
    token_name: str | None


async def list_tags(call: Call, name: RepositoryName, query: TagsQuery) -> Page[tagsearch.FoundTag]:
    """Tags of a repository, those that are asked for.

    A page that is not of all looks at 500 tags: it may be short, or empty, and still have a next one."""
    return await search_tags(call, await _repository(call, name, "pull"), query)


async def search_tags(call: Call, repository: Repository, query: TagsQuery) -> Page[tagsearch.FoundTag]:
    """As :func:`list_tags`, of a repository that the caller may pull from."""
    wanted = tagsearch.Wanted(
        glob=query.glob,
        regex=query.regex,
        semver=query.semver,
        digest=None if query.digest is None else str(parse_content_digest(query.digest)),
        platform=query.platform,
        label=None if query.label is None else tagsearch.parse_label(query.label),
        state=query.state,
        signed=None if query.signed is None else query.signed == "true",
        updated_since=query.updated_since,
        updated_before=query.updated_before,
        order=query.order,
    )
    found, following = await tagsearch.search(
        call.services.database,
        repository.id,
        wanted,
        limit=query.limit,
        cursor=query.cursor,
        max_age=max_verdict_age(call.services.settings),
    )
    return Page(found, following)


async def list_deleted_tags(call: Call, name: RepositoryName, query: PageQuery) -> Page[DeletedTag]:
    """Tags that were deleted and not made again, the last one first, as far as their history is kept.

    A page looks at 1,000 deletions at most: it may be short, and still have a next one."""
    repository = await _repository(call, name, "pull")
    services = call.services
    found, following = await taghistory.list_deleted(
        services.database,
        repository,
        limit=query.limit,
        cursor=query.cursor,
        grace=timedelta(seconds=services.settings.collection_grace_seconds),
    )
    return Page(found, following)


async def show_tag(call: Call, name: RepositoryName, tag: TagName, query: TagQuery) -> use.TagDetails:
    """Where one tag stands, or stood at a time.

    Of a time before what is kept of its history, nothing is known: 404."""
    repository = await _repository(call, name, "pull")
    database = call.services.database
    if query.at is not None:
        return await use.show_at(database, repository, parse_tag(tag), query.at)
    return await use.show(database, repository, parse_tag(tag))


async def show_history(call: Call, name: RepositoryName, tag: TagName, query: PageQuery) -> Page[Move]:
    """The moves of a tag, newest first; also of one that is no more."""
    repository = await _repository(call, name, "pull")
    moves = await taghistory.history(
        call.services.database,
        repository,
        parse_tag(tag),
        limit=query.limit + 1,
        before=query.number,
        tells_sources=taghistory.sees_sources(call.actor, repository),
    )
    page = query.page(moves, key=lambda move: str(move.id))
    return Page([Move.of(move) for move in page.items], page.next)


async def roll_back(call: Call, name: RepositoryName, tag: TagName, body: Rollback) -> use.TagDetails:
    """Point a tag at where it stood before; one that was deleted comes back."""
    to = None if body.to is None else parse_content_digest(body.to)
    mover = await _mover(call, name, body)
    return await use.roll_back(mover, parse_tag(tag), to=to, stands_at=body.stands_at)


async def restore_tag(call: Call, name: RepositoryName, tag: TagName, body: Restoration) -> use.TagDetails:
    """Bring back a tag that was deleted.

    For those who may delete also an image that was, no longer ago than the grace of collections."""
    to = None if body.to is None else parse_content_digest(body.to)
    return await use.restore(await _mover(call, name, body), parse_tag(tag), to=to)


async def move_tag(call: Call, name: RepositoryName, tag: TagName, body: TagMovement) -> use.TagDetails:
    """Point a tag that there is at another image of its repository."""
    to = parse_reference(body.to)
    return await use.move(await _mover(call, name, body), parse_tag(tag), to=to, stands_at=body.stands_at)


async def copy_tag(call: Call, name: RepositoryName, tag: TagName, body: TagCopy) -> use.TagDetails:
    """Make another tag that stands where this one does."""
    return await use.copy(await _mover(call, name, body), parse_tag(tag), to=parse_tag(body.to))


async def delete_tag(
    call: Call, name: RepositoryName, tag: TagName, query: DeletionQuery, conditions: Conditions
) -> None:
    """Remove a tag and nothing else."""
    repository = await _repository(call, name, "delete")
    await tag_use.delete(
        call.services.database,
        repository,
        parse_tag(tag),
        conditions=conditions,
        actor=call.actor,
        reason=None if query.reason is None else one_line(query.reason),
        dry_run=query.dry_run == "true",
    )


async def _mover(call: Call, name: str, body: Why) -> use.Mover:
    repository = await _repository(call, name, "push")
    services, actor = call.services, call.actor
    return use.Mover(
        database=services.database,
        store=services.blobs,
        settings=services.settings,
        effects=services.effects,
        parsers=call.request.app[PARSERS],
        repository=repository,
        actor=actor,
        brings_back=decide(actor, "delete", repository.name, repository.visibility).allowed,
        reason=None if body.reason is None else one_line(body.reason),
        dry_run=body.dry_run,
    )


async def _repository(call: Call, name: str, action: Action) -> Repository:
    repository = await find(call.services.database, actor=call.actor, action=action, name=name)
    if action != "pull":
        require_writable(read_only=call.services.settings.read_only)
    return repository


_NOWHERE = (NameUnknownError,)
_GONE = (NameUnknownError, ManifestUnknownError)
_TAG = "/repositories/{name}/tags/{tag}"
ROUTES = (
    Route("GET", "/repositories/{name}/tags", "anyone", list_tags, errors=_NOWHERE),
    Route("GET", "/repositories/{name}/deleted-tags", "anyone", list_deleted_tags, errors=_NOWHERE),
    Route("GET", _TAG, "anyone", show_tag, errors=_GONE),
    Route("DELETE", _TAG, "anyone", delete_tag, errors=_GONE),
    Route("GET", f"{_TAG}/history", "anyone", show_history, errors=_NOWHERE),
    *(
        Route("POST", f"{_TAG}/{word}", "anyone", handler, errors=(*_GONE, ConflictError))
        for word, handler in (
            ("rollback", roll_back),
            ("restore", restore_tag),
            ("move", move_tag),
            ("copy", copy_tag),
        )
    ),
)
