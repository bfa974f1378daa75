"""``/api/v1/trials``: what was tried, and what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from aiohttp import web
from pydantic import Field

from registry.auth.actor import Workload
from registry.content.administration import find
from registry.errors import (
    ConflictError,
    DeniedError,
    ManifestUnknownError,
    NameUnknownError,
    NotFoundError,
    RequestInvalidError,
    TooManyRequestsError,
    UnauthorizedError,
)
from registry.http.api.fields import ContentDigest, Id, ImageReference, TagName
from registry.http.api.images import find_image, named
from registry.http.api.models import Answer, Body, Query
from registry.http.api.routes import Call, Route, given_run_spec
from registry.trials import reading, requests
from registry.trials.asking import is_writer
from registry.trials.reading import PartView, RunView, TrialView

WAIT_MAX_SECONDS = 60.0


class Request(Body):
    """A trial to start: ``image`` is ``NAME:TAG`` or ``NAME@DIGEST``, ``spec`` an object or YAML."""

    image: ImageReference
    spec: dict[str, Any] | str | None = None


class TrialQuery(Query):
    """Whose trials, and how long to wait for a verdict."""

    image: ImageReference | None = None
    tag: TagName | None = None
    digest: ContentDigest | None = None
    wait: float = Field(default=0, ge=0, le=WAIT_MAX_SECONDS, description="Seconds to wait for a verdict.")
    limit: int = Field(default=reading.LIST_MAX, ge=1, le=reading.LIST_MAX, description="How many at most.")
    cursor: Id | None = Field(default=None, max_length=100, description="The last one of the page before.")


class Trial(Answer):
    """A trial with its parts and runs. ``log`` of a run is null for those who may not push."""

    id: str
    image: str = Field(validation_alias="repository", description="The repository.")
    digest: str
    state: str
    verdict: str | None
    reason: str
    cause: str
    created_by: str
    workload: Workload | None
    created_at: datetime
    finished_at: datetime | None
    parts: Sequence[PartView]
    runs: Sequence[RunView]
    flaky: bool = Field(description="Whether it passed only after attempts that failed.")
    flaky_attempts: int = Field(description="How many those were.")


async def list_trials(call: Call, query: TrialQuery) -> list[Trial]:
    """The newest trials; with ``wait``, those of one image as soon as there is a verdict or time is up.

    Where there may be older ones, the header ``Link`` has the address of the next page.
    """
    if query.image is None and query.model_fields_set - {"limit", "cursor"}:
        raise RequestInvalidError("tag, digest and wait need an image")
    image = None if query.image is None else named(query.image, query.tag, query.digest)
    if image is not None and ("@" in image or ":" in image):
        if query.cursor is not None:
            raise RequestInvalidError("the trials of one image are on one page")
        repository, manifest, _ = await find_image(call, image, "pull")
        with call.services.waiters.room(call.actor, seconds=query.wait):
            found = await reading.wait_for_trials(
                call.services.database,
                repository_id=repository.id,
                digest=str(manifest.digest),
                seconds=query.wait,
            )
        return [_shown(call, trial) for trial in found[: query.limit]]
    if query.wait:
        raise RequestInvalidError("wait needs a tag or a digest")
    if image is not None:
        await find(call.services.database, actor=call.actor, action="pull", name=image)
    found = await reading.list_trials(
        call.services.database,
        actor=call.actor,
        repository=image,
        limit=query.limit,
        before=query.cursor,
    )
    if len(found) == query.limit:
        following = call.request.rel_url.update_query(cursor=found[-1].id)
        call.response.headers["Link"] = f'<{following}>; rel="next"'
    return [_shown(call, trial) for trial in found]


async def start_trial(call: Call, body: Request) -> Trial:
    """Try an image again, or under a run spec of the request's own."""
    repository, manifest, _ = await find_image(call, body.image, "trial")
    services = call.services
    trial_id = await requests.start(
        services.database,
        services.settings,
        repository_id=repository.id,
        digest=str(manifest.digest),
        spec=await given_run_spec(call.request.app, body.spec),
        created_by=call.actor,
    )
    return _shown(call, await reading.show_trial(services.database, actor=call.actor, trial_id=trial_id))


async def show_trial(call: Call, trial_id: Id) -> Trial:
    """One trial with its parts and runs."""
    return _shown(call, await _trial(call, trial_id))


async def show_log(call: Call, trial_id: Id) -> web.Response:
    """What the image wrote, as text; for those who may push, and auditors."""
    trial = await _trial(call, trial_id)
    if not _may_read_log(call, trial):
        if call.actor.kind == "anonymous":
            raise UnauthorizedError(
                f"sign in to read the log: it is for those who may push to {trial.repository}"
            )
        raise DeniedError(
            f"the log is for those who may push to {trial.repository}; verdict and reason are for all readers"
        )
    several = len(trial.runs) > 1
    texts = [f"== {_titled(run)} ==\n{run.log}" if several else run.log for run in trial.runs]
    return web.Response(
        text="\n".join(text or "" for text in texts),
        content_type="text/plain",
        charset="utf-8",
        headers={"Cache-Control": "no-store", "Content-Security-Policy": "sandbox"},
    )


def _titled(run: RunView) -> str:
    attempt = "" if run.attempt is None else f", attempt {run.attempt}"
    return f"{run.platform} {run.name}{attempt}"


async def _trial(call: Call, trial_id: str) -> TrialView:
    return await reading.show_trial(call.services.database, actor=call.actor, trial_id=trial_id)


def _may_read_log(call: Call, trial: TrialView) -> bool:
    reads_all = call.actor.is_auditor
    return reads_all or is_writer(call.actor, name=trial.repository, visibility=trial.visibility)


def _shown(call: Call, trial: TrialView) -> Trial:
    if _may_read_log(call, trial):
        return Trial.of(trial)
    return Trial.of(replace(trial, runs=[replace(run, log=None) for run in trial.runs]))


_GONE = (NotFoundError, NameUnknownError, ManifestUnknownError)
ROUTES = (
    Route("GET", "/trials", "anyone", list_trials, errors=(*_GONE, TooManyRequestsError)),
    Route("POST", "/trials", "anyone", start_trial, status=201, errors=(*_GONE, ConflictError)),
    Route("GET", "/trials/{trial_id}", "anyone", show_trial, errors=_GONE),
    Route("GET", "/trials/{trial_id}/log", "anyone", show_log, errors=_GONE, media_type="text/plain"),
)
