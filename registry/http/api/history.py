"""``/api/v1/repositories/{name}/trials``: what was tried over time, and what changed from one to the next."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import Field

from registry.content.administration import find
from registry.contract.judge import Verdict
from registry.errors import ManifestUnknownError, NameUnknownError, RequestInvalidError
from registry.http.api.fields import ContentDigest, RepositoryName, TagName, Time
from registry.http.api.images import find_image
from registry.http.api.models import Answer, Page, PageQuery
from registry.http.api.routes import Call, Route
from registry.oci.digest import parse_content_digest
from registry.oci.names import parse_tag
from registry.trials.history import Changes, Entry, Wanted, list_history, parse_position

Cause = Literal["push", "request"]


class HistoryQuery(PageQuery):
    """Which trials of a repository."""

    tag: TagName | None = Field(default=None, description="Of the image that the tag names now.")
    digest: ContentDigest | None = Field(
        default=None, description="Of this image, which need not be there any more."
    )
    verdict: Verdict | None = Field(default=None, description="Only those with this verdict.")
    cause: Cause | None = Field(default=None, description="Only those that this began.")
    since: Time | None = Field(default=None, description="Only those that began then, or later.")


class PastTrial(Answer):
    """One trial of a history, without its runs. ``runtimes``, ``seconds`` (of all its runs together) and what
    ``failed`` are null while it is not done, and where it was done before these were kept."""

    id: str
    image: str = Field(description="The repository.")
    digest: str
    state: str
    verdict: str | None
    reason: str
    cause: str
    created_by: str
    created_at: datetime
    finished_at: datetime | None
    spec_digest: str = Field(description="Of the run spec; `image`, where the image suggests.")
    policy_version: int
    runtimes: Sequence[str] | None
    seconds: float | None
    flaky_attempts: int | None = Field(description="Attempts that failed before one passed.")
    failed: Sequence[str] | None = Field(description="Expectations that were not met; the first twenty.")
    more_failed: int | None = Field(description="How many others were not met.")
    changes: Changes | None = Field(
        description="What it has otherwise than the one before it: of the same image, or where that has "
        "none, of the repository. Null where there is none, or where one of the two is not done."
    )


async def list_past_trials(call: Call, name: RepositoryName, query: HistoryQuery) -> Page[PastTrial]:
    """The history of a repository or of one of its images: its trials, newest first."""
    if query.tag is not None and query.digest is not None:
        raise RequestInvalidError("give a tag or a digest, not both")
    after = None if query.cursor is None else parse_position(query.cursor)
    repository = await find(call.services.database, actor=call.actor, action="pull", name=name)
    digest = None if query.digest is None else str(parse_content_digest(query.digest))
    if query.tag is not None:
        _, manifest, _ = await find_image(call, f"{name}:{parse_tag(query.tag)}", "pull")
        digest = str(manifest.digest)
    found = await list_history(
        call.services.database,
        repository_id=repository.id,
        wanted=Wanted(digest=digest, verdict=query.verdict, cause=query.cause, since=query.since),
        limit=query.limit + 1,
        after=after,
    )
    page = query.page(found, key=lambda entry: str(entry.position))
    return Page([_shown(repository.name, entry) for entry in page.items], page.next)


def _shown(repository: str, entry: Entry) -> PastTrial:
    seen = entry.seen
    return PastTrial(
        **{one: getattr(entry, one) for one in Entry.__dataclass_fields__ if one != "seen"},
        image=repository,
        runtimes=None if seen is None else seen.runtimes,
        seconds=None if seen is None else seen.seconds,
        flaky_attempts=None if seen is None else seen.flaky_attempts,
        failed=None if seen is None else seen.failed,
        more_failed=None if seen is None else seen.more_failed,
    )


ROUTES = (
    Route(
        "GET",
        "/repositories/{name}/trials",
        "anyone",
        list_past_trials,
        errors=(NameUnknownError, ManifestUnknownError),
    ),
)
