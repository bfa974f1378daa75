"""``/api/v1/retention``: what repositories keep, and what goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from registry.auth.access import require_writable
from registry.auth.policy import decide
from registry.content import retentionpolicies as use
from registry.content import retentionruns as runs
from registry.content import retentionundo
from registry.content.administration import find
from registry.content.recurring import HOURS_MAX
from registry.content.retaining import MANIFESTS_MAX
from registry.content.retentionrules import (
    ALL,
    CAP_MAX,
    DAYS_MAX,
    LAST_MAX,
    RULES_MAX,
    KeepRule,
    Order,
    RetentionPolicy,
    fuse,
)
from registry.content.tagmatching import PATTERN_MAX, MatchKind, TagPattern
from registry.content.tagmoves import Mover
from registry.errors import (
    ConflictError,
    DeniedError,
    NameInvalidError,
    NameUnknownError,
    NotFoundError,
    UnauthorizedError,
)
from registry.http.api.fields import Id, PlaceKey
from registry.http.api.models import Body, Page, PageQuery, Query
from registry.http.api.reasons import numbered
from registry.http.api.routes import Call, Route
from registry.http.parsers import PARSERS
from registry.http.retaining import ASKED
from registry.oci.conditions import Conditions

SKIP_MAX = 100_000


class RetentionQuery(Query):
    """That of which place."""

    on: PlaceKey


class RunsQuery(PageQuery):
    """The runs of which place."""

    on: PlaceKey


class MeantTags(Body):
    """Tags that are meant: by a pattern with `*`, an RE2 pattern of the whole name, a range of versions."""

    by: MatchKind
    pattern: str = Field(max_length=PATTERN_MAX, examples=["v*"])


class NewKeepRule(Body):
    """Tags that stay: of those meant (all, if none are said) the last so many, and those that were pulled, or
    that moved, within so many days; with none of the three all of them."""

    tags: MeantTags | None = None
    last: int | None = Field(default=None, ge=1, le=LAST_MAX)
    order: Order = Field(default="updated", description="By which the last ones are the last.")
    pulled_days: int | None = Field(default=None, ge=1, le=DAYS_MAX)
    moved_days: int | None = Field(default=None, ge=1, le=DAYS_MAX)


class NewRetention(Body):
    """What stays and what goes; what is left out does not count."""

    keep: list[NewKeepRule] = Field(
        default=[], max_length=RULES_MAX, description="Tags that none of these keeps go; none: no tag goes."
    )
    failed_days: int | None = Field(
        default=None,
        ge=1,
        le=DAYS_MAX,
        description="Tags go whose image a trial has spoken against for so long.",
    )
    untagged_days: int | None = Field(
        default=None,
        ge=1,
        le=DAYS_MAX,
        description="Manifests go that no tag reaches, has reached, nor anybody pulled for so long.",
    )
    referrers_days: int | None = Field(
        default=None, ge=1, le=DAYS_MAX, description="Referrers go that are older."
    )
    referrers_last: int = Field(
        default=1, ge=1, le=1000, description="But not the last so many of a type and image."
    )
    every_hours: int | None = Field(default=None, ge=1, le=HOURS_MAX)
    at: str | None = Field(default=None, max_length=5, description="A time of day, UTC.", examples=["02:30"])
    cap: int = Field(
        default=1000, ge=1, le=CAP_MAX, description="A run that would delete more deletes nothing."
    )
    cap_percent: int = Field(
        default=50, ge=1, le=100, description="Nor one that would delete more of all tags, or manifests."
    )


class PlacedNewRetention(NewRetention):
    """Where it is to count, and what stays and what goes."""

    on: PlaceKey


class PreviewedRetention(Body):
    """What is asked about: the policy that counts, or one that is not set; a repository after the other."""

    on: PlaceKey
    policy: NewRetention | None = None
    limit: int = Field(default=1000, ge=0, le=10_000, description="So many of what goes are named.")
    skip: int = Field(default=0, ge=0, le=SKIP_MAX, description="But not the first so many of a repository.")
    staying: int = Field(default=0, ge=0, le=10_000, description="So many of the tags that stay are, too.")
    cursor: str | None = Field(default=None, max_length=300, description="What `next` of a page said.")


class NewRun(Body):
    """Where, and by which fuse in the place of the policy's."""

    on: PlaceKey
    cap: int | None = Field(default=None, ge=1, le=CAP_MAX)
    cap_percent: int | None = Field(default=None, ge=1, le=100)
    policies: str | None = Field(
        default=None,
        max_length=64,
        description="What `policies` of a preview said: a run of other ones is refused (409).",
    )


@dataclass(frozen=True, slots=True)
class RetentionPreviewed:
    """A tag, or (without one) a manifest by its digest; whether it goes, and why, or why not."""

    tag: str | None
    digest: str | None
    goes: bool
    why: str


@dataclass(frozen=True, slots=True)
class RetentionPreview:
    """What would go from a repository. `refusal`: why a run would delete nothing at all. `more`: more goes
    than `items` has. `next` is the cursor of the next repository, null: there is none. `policies` is the
    digest of the policies that count at the place, null: what was asked about is not set."""

    repository: str | None
    tags: int
    manifests: int
    tags_going: int
    manifests_going: int
    refusal: str | None
    items: Sequence[RetentionPreviewed]
    more: bool
    next: str | None
    policies: str | None


async def show_retention(call: Call, query: RetentionQuery) -> use.PlacedRetention:
    """The policy that counts on a repository or in a namespace: its own, else that of the nearest above."""
    found = await use.list_counting(call.services.database, actor=call.actor, on=query.on)
    if not found:
        raise NotFoundError(f"no retention policy counts on {query.on[:300]}")
    return found[0]


async def list_retention(call: Call, query: RetentionQuery) -> Sequence[use.PlacedRetention]:
    """The policies on a place and on the namespaces above it, the nearest first: that one counts, alone."""
    return await use.list_counting(call.services.database, actor=call.actor, on=query.on)


async def put_retention(call: Call, body: PlacedNewRetention, conditions: Conditions) -> use.PlacedRetention:
    """Let a policy count on a repository, or in all below a namespace that have no nearer one.

    Nothing goes before it is carried out: by its schedule, or when somebody asks."""
    return await use.put(
        call.services.database,
        actor=call.actor,
        on=body.on,
        wanted=policy_of_body(body),
        pulls_kept_days=call.services.settings.audit_keep_days,
        conditions=conditions,
    )


async def clear_retention(call: Call, query: RetentionQuery, conditions: Conditions) -> None:
    """Take a place's own policy away; one on a namespace above counts then."""
    await use.clear(call.services.database, actor=call.actor, on=query.on, conditions=conditions)


async def preview_retention(call: Call, body: PreviewedRetention) -> RetentionPreview:
    """What would go now from the first repository of a place, or the one after the cursor, and why.

    Nothing is changed. For maintainers."""
    found, policy, following = await use.preview(
        call.services.database,
        actor=call.actor,
        on=body.on,
        wanted=None if body.policy is None else policy_of_body(body.policy),
        limit=body.skip + body.limit,
        staying=body.staying,
        after=body.cursor,
        pulls_kept_days=call.services.settings.audit_keep_days,
    )
    if found is None or policy is None:
        return RetentionPreview(None, 0, 0, 0, 0, None, [], more=False, next=None, policies=None)
    plan = found.plan
    going = [RetentionPreviewed(each.name, None, goes=True, why=each.judged.why) for each in plan.tags]
    left = body.skip + body.limit - len(going)
    going += [
        RetentionPreviewed(None, each.digest, goes=True, why=each.why) for each in plan.manifests[:left]
    ]
    items = going[body.skip :]
    counts = plan.counts
    more = counts.tags_going + counts.manifests_going > len(going)
    items += [RetentionPreviewed(each.name, None, goes=False, why=each.judged.why) for each in plan.staying]
    return RetentionPreview(
        found.repository,
        counts.tags,
        counts.manifests,
        counts.tags_going,
        counts.manifests_going,
        fuse(counts, cap=policy.cap, cap_percent=policy.cap_percent),
        items,
        more=more or counts.manifests_going >= MANIFESTS_MAX,
        next=following,
        policies=found.policies,
    )


async def ask_retention(call: Call, body: NewRun) -> runs.Asked:
    """Carry the policy of a repository out now, or those of all below a namespace.

    A repository in which a run has not ended gets no second one."""
    require_writable(read_only=call.services.settings.read_only)
    asked = await runs.ask(
        call.services.database,
        actor=call.actor,
        on=body.on,
        cap=body.cap,
        cap_percent=body.cap_percent,
        policies=body.policies,
    )
    call.request.app[ASKED].set()
    return asked


async def list_retention_runs(call: Call, query: RunsQuery) -> Page[runs.Run]:
    """The runs in a repository, or in all below a namespace, the newest first."""
    found = await runs.list_runs(
        call.services.database,
        actor=call.actor,
        on=query.on,
        limit=query.limit + 1,
        before=query.number,
    )
    return query.page(found, key=lambda run: str(run.id))


async def show_retention_run(call: Call, run_id: Id) -> runs.Run:
    """One run: what it has come to."""
    return await _run(call, run_id)


async def list_retention_items(call: Call, run_id: Id, query: PageQuery) -> Page[runs.Item]:
    """What a run has deleted, in that order, and why."""
    return await list_items_of(call, await _run(call, run_id), query)


async def list_items_of(call: Call, run: runs.Run, query: PageQuery) -> Page[runs.Item]:
    """As :func:`list_retention_items`, of a run that the caller may see."""
    found = await runs.list_items(call.services.database, run.id, limit=query.limit + 1, after=query.number)
    return query.page(found, key=lambda item: str(item.id))


async def undo_retention(call: Call, run_id: Id) -> retentionundo.Undone:
    """Bring back what a run has deleted, fifty at a time: again, as long as something is left.

    Images come back within the grace of collections. For those who may push and delete there."""
    run = await _run(call, run_id)
    services, actor = call.services, call.actor
    repository = await find(services.database, actor=actor, action="push", name=run.repository)
    require_writable(read_only=services.settings.read_only)
    mover = Mover(
        database=services.database,
        store=services.blobs,
        settings=services.settings,
        effects=services.effects,
        parsers=call.request.app[PARSERS],
        repository=repository,
        actor=actor,
        brings_back=decide(actor, "delete", repository.name, repository.visibility).allowed,
    )
    return await retentionundo.undo(mover, run)


async def _run(call: Call, run_id: str) -> runs.Run:
    missing = NotFoundError(f"there is no retention run {run_id[:80]!r} that you may see")
    run = await runs.find(call.services.database, numbered(run_id, "retention run"))
    try:
        await find(call.services.database, actor=call.actor, action="pull", name=run.repository)
    except (NameUnknownError, DeniedError, UnauthorizedError):
        # Whether there is such a run, or such a repository, is not for him to know.
        raise missing from None
    return run


def policy_of_body(body: NewRetention) -> RetentionPolicy:
    """The policy that a body says."""
    return RetentionPolicy(
        keep=tuple(
            KeepRule(
                tags=ALL if rule.tags is None else TagPattern(rule.tags.by, rule.tags.pattern),
                last=rule.last,
                order=rule.order,
                pulled_days=rule.pulled_days,
                moved_days=rule.moved_days,
            )
            for rule in body.keep
        ),
        failed_days=body.failed_days,
        untagged_days=body.untagged_days,
        referrers_days=body.referrers_days,
        referrers_last=body.referrers_last,
        every_hours=body.every_hours,
        at=body.at,
        cap=body.cap,
        cap_percent=body.cap_percent,
    )


_NOWHERE = (NameInvalidError, NameUnknownError, NotFoundError)
ROUTES = (
    Route("GET", "/retention", "anyone", show_retention, errors=_NOWHERE),
    Route("PUT", "/retention", "anyone", put_retention, errors=_NOWHERE),
    Route("DELETE", "/retention", "anyone", clear_retention, errors=_NOWHERE),
    Route("GET", "/retention/policies", "anyone", list_retention, errors=_NOWHERE),
    Route("POST", "/retention/preview", "anyone", preview_retention, errors=(*_NOWHERE, ConflictError)),
    Route("POST", "/retention/runs", "anyone", ask_retention, status=202, errors=(*_NOWHERE, ConflictError)),
    Route("GET", "/retention/runs", "anyone", list_retention_runs, errors=_NOWHERE),
    Route("GET", "/retention/runs/{run_id}", "anyone", show_retention_run, errors=(NotFoundError,)),
    Route("GET", "/retention/runs/{run_id}/items", "anyone", list_retention_items, errors=(NotFoundError,)),
    Route(
        "POST",
        "/retention/runs/{run_id}/undo",
        "anyone",
        undo_retention,
        errors=(NotFoundError, NameUnknownError, ConflictError),
    ),
)
