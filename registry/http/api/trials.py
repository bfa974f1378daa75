"""``/api/v1/trials``: what was tried, and what was seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from registry.auth.actor import Workload
from registry.content.administration import find
from registry.contract.judge import Verdict
from registry.errors import (
    ConflictError,
    ManifestUnknownError,
    NameUnknownError,
    NotFoundError,
    RequestInvalidError,
    TooManyRequestsError,
)
from registry.http.api.fields import ContentDigest, Id, ImageReference, TagName, Time, UpstreamName
from registry.http.api.images import find_image, named
from registry.http.api.logrights import require_log
from registry.http.api.models import Answer, Body, Query
from registry.http.api.routes import Call, Route, given_run_spec
from registry.http.parsers import PARSERS
from registry.trials import cancelling, reading, requests, upstreamtrials
from registry.trials.formats.junit import junit
from registry.trials.formats.markdown import markdown
from registry.trials.formats.sarif import sarif
from registry.trials.history import Wanted
from registry.trials.reading import Logs, PartView, RunView, TrialView
from registry.trials.upstreams import find_of_image

WAIT_MAX_SECONDS = 60.0
Format = Literal["junit", "markdown", "sarif"]
_FORMATS: Mapping[Format, tuple[str, Callable[[TrialView], bytes]]] = MappingProxyType(
    {
        "junit": ("application/xml; charset=utf-8", junit),
        "markdown": ("text/markdown; charset=utf-8", markdown),
        "sarif": ("application/sarif+json", sarif),
    }
)


class Request(Body):
    """A trial to start: ``image`` is ``NAME:TAG`` or ``NAME@DIGEST``, of another registry with its host
    before that; ``spec`` an object or YAML."""

    image: ImageReference
    spec: dict[str, Any] | str | None = None
    upstream: UpstreamName | None = Field(
        default=None,
        description="Where `image` is an image of another registry: which one. Left out it is found by the "
        "host that `image` begins with.",
    )


class TrialQuery(Query):
    """Whose trials, and how long to wait for a verdict."""

    image: ImageReference | None = None
    tag: TagName | None = None
    digest: ContentDigest | None = None
    wait: float = Field(default=0, ge=0, le=WAIT_MAX_SECONDS, description="Seconds to wait for a verdict.")
    verdict: Verdict | None = Field(default=None, description="Only those with this verdict.")
    since: Time | None = Field(default=None, description="Only those that began then, or later.")
    limit: int = Field(default=reading.LIST_MAX, ge=1, le=reading.LIST_MAX, description="How many at most.")
    cursor: Id | None = Field(default=None, max_length=100, description="The last one of the page before.")


class ExportQuery(Query):
    """In which format."""

    format: Format | None = Field(default=None, description="Left out: as `Accept` says, or `junit`.")


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
    spec_digest: str = Field(description="Of the run spec; `image`, where the image suggests.")
    upstream: str | None = Field(
        description="Of an image of another registry: the upstream's name, a slash, and what was asked for; "
        "`digest` is then empty until it is known."
    )
    parts: Sequence[PartView]
    runs: Sequence[RunView]
    flaky: bool = Field(description="Whether it passed only after attempts that failed.")
    flaky_attempts: int = Field(description="How many those were.")


async def list_trials(call: Call, query: TrialQuery) -> list[Trial]:
    """The newest trials; with ``wait``, those of one image as soon as there is a verdict or time is up.

    Where there may be older ones, the header ``Link`` has the address of the next page.
    """
    if query.image is None and query.model_fields_set - {"limit", "cursor", "verdict", "since"}:
        raise RequestInvalidError("tag, digest and wait need an image")
    image = None if query.image is None else named(query.image, query.tag, query.digest)
    if image is not None and ("@" in image or ":" in image):
        if query.model_fields_set & {"cursor", "verdict", "since"}:
            raise RequestInvalidError(
                "the trials of one image are on one page, whatever their verdict; "
                "/api/v1/repositories/NAME/trials has its history"
            )
        repository, manifest, _ = await find_image(call, image, "pull")
        with call.services.waiters.room(call.actor, seconds=query.wait):
            found = await reading.wait_for_trials(
                call.services.database,
                call.services.settings,
                actor=call.actor,
                repository_id=repository.id,
                digest=str(manifest.digest),
                seconds=query.wait,
            )
        return [Trial.of(trial) for trial in found[: query.limit]]
    if query.wait:
        raise RequestInvalidError("wait needs a tag or a digest")
    if image is not None:
        await find(call.services.database, actor=call.actor, action="pull", name=image)
    found = await reading.list_trials(
        call.services.database,
        call.services.settings,
        actor=call.actor,
        repository=image,
        wanted=Wanted(verdict=query.verdict, since=query.since),
        limit=query.limit,
        before=query.cursor,
    )
    if len(found) == query.limit:
        following = call.request.rel_url.update_query(cursor=found[-1].id)
        call.response.headers["Link"] = f'<{following}>; rel="next"'
    return [Trial.of(trial) for trial in found]


async def start_trial(call: Call, body: Request) -> Trial:
    """Try an image again, or under a run spec of the request's own; or one of another registry."""
    services = call.services
    upstream, image = body.upstream, body.image
    if upstream is None and (found := await find_of_image(services.database, call.actor, image)) is not None:
        upstream, image = found[0].name, found[1]
    if upstream is not None:
        trial_id = await upstreamtrials.start(
            services.database,
            services.settings,
            actor=call.actor,
            upstream=upstream,
            image=image,
            spec=await given_run_spec(call.request.app, body.spec),
        )
        return Trial.of(await _trial(call, trial_id))
    repository, manifest, _ = await find_image(call, body.image, "trial")
    trial_id = await requests.start(
        services.database,
        services.settings,
        repository_id=repository.id,
        digest=str(manifest.digest),
        spec=await given_run_spec(call.request.app, body.spec),
        created_by=call.actor,
    )
    return Trial.of(await _trial(call, trial_id))


async def show_trial(call: Call, trial_id: Id) -> Trial:
    """One trial with its parts and runs."""
    return Trial.of(await _trial(call, trial_id))


async def cancel_trial(call: Call, trial_id: Id) -> Trial:
    """End a trial before its verdict, which is `error` then: nothing is known of the image.

    For those who may start trials there. Other trials of the image that wait for the same end with it."""
    trial = await _trial(call, trial_id, logs="none")
    await cancelling.cancel(call.services.database, actor=call.actor, trial=trial)
    return Trial.of(await _trial(call, trial_id))


async def export_trial(call: Call, trial_id: Id, query: ExportQuery) -> web.Response:
    """One trial in a format that other programs read: by `format`, or by `Accept`.

    JUnit's XML has a suite for each run and a case for each expectation; Markdown is for a comment on a
    change; SARIF 2.1.0 has a result for each expectation that was not met. The ends of logs are in it for
    those who may read them.
    """
    form = query.format or _accepted(call.request)
    media_type, render = _FORMATS[form]
    trial = await _trial(call, trial_id, logs="none" if form == "sarif" else "tail")
    return web.Response(
        body=await call.request.app[PARSERS].run(render, trial),
        headers={
            "Content-Type": media_type,
            "Cache-Control": "no-store",
            "Content-Security-Policy": "sandbox",
            "Vary": "Accept",
        },
    )


def _accepted(request: web.Request) -> Format:
    asked = {one.partition(";")[0].strip().lower() for one in request.headers.get("Accept", "").split(",")}
    for form, (media_type, _) in _FORMATS.items():
        if media_type.partition(";")[0] in asked:
            return form
    if asked & {"", "*/*"}:
        return "junit"
    raise RequestInvalidError(f"say which format: {', '.join(_FORMATS)}")


async def show_log(call: Call, trial_id: Id) -> web.Response:
    """What the image wrote, as text; for those who may push, and auditors."""
    trial = await _trial(call, trial_id)
    require_log(call.actor, repository=trial.repository, visibility=trial.visibility)
    several = len(trial.runs) > 1
    texts = [(run, (run.log or "") if run.log_kept else "(log no longer kept)\n") for run in trial.runs]
    return web.Response(
        text="\n".join(
            f"== {run.platform} {run.title} ==\n{text}" if several else text for run, text in texts
        ),
        content_type="text/plain",
        charset="utf-8",
        headers={"Cache-Control": "no-store", "Content-Security-Policy": "sandbox"},
    )


async def _trial(call: Call, trial_id: str, *, logs: Logs = "whole") -> TrialView:
    return await reading.show_trial(
        call.services.database, call.services.settings, actor=call.actor, trial_id=trial_id, logs=logs
    )


_GONE = (NotFoundError, NameUnknownError, ManifestUnknownError)
ROUTES = (
    Route("GET", "/trials", "anyone", list_trials, errors=(*_GONE, TooManyRequestsError)),
    Route(
        "POST",
        "/trials",
        "anyone",
        start_trial,
        status=201,
        errors=(*_GONE, ConflictError, TooManyRequestsError),
    ),
    Route("GET", "/trials/{trial_id}", "anyone", show_trial, errors=_GONE),
    Route(
        "GET", "/trials/{trial_id}/export", "anyone", export_trial, errors=_GONE, media_type="application/xml"
    ),
    Route("POST", "/trials/{trial_id}/cancel", "anyone", cancel_trial, errors=(*_GONE, ConflictError)),
    Route("GET", "/trials/{trial_id}/log", "anyone", show_log, errors=_GONE, media_type="text/plain"),
)
