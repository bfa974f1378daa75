"""``/api/v1/trials`` and ``/api/v1/gate``: what was tried, what was seen, and what the gate makes of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from aiohttp import web

from registry.auth.access import require
from registry.content import manifests
from registry.content.administration import find_readable
from registry.content.manifests import StoredManifest
from registry.content.repositories import Repository
from registry.errors import DeniedError, RequestInvalidError
from registry.http.api.routes import Body, Call, Route, given_run_spec, shown_time
from registry.oci.digest import parse_content_digest
from registry.oci.names import parse_tag, split_repository_reference
from registry.trials import blocking, reading, requests
from registry.trials.admission import explain_manifest, may_push
from registry.trials.gate import Admit, AdmitWithWarning, Decision, Refuse, Wait
from registry.trials.reading import RunView, TrialView

WAIT_MAX_SECONDS = 60.0
REASON_MAX = 500


class Request(Body):
    """A trial to start: ``image`` is ``NAME:TAG`` or ``NAME@DIGEST``, ``spec`` an object or YAML."""

    image: str
    spec: dict[str, Any] | str | None = None


class Image(Body):
    """An image: ``NAME:TAG`` or ``NAME@DIGEST``."""

    image: str


class Block(Image):
    """An image to block, and why: everybody who is refused reads it."""

    reason: str


async def list_trials(call: Call) -> object:
    """The newest trials; with ``wait``, those of one image as soon as there is a verdict or time is up."""
    asked = call.query("image", "tag", "digest", "wait")
    wait = _seconds(asked.get("wait", "0"))
    if "image" not in asked:
        if len(asked) > 0:
            raise RequestInvalidError("tag, digest and wait need an image")
        found = await reading.list_trials(call.services.database, actor=call.actor)
    else:
        image = _named(asked)
        if "@" in image or ":" in image:
            repository, manifest = await _find(call, image)
            found = await reading.wait_for_trials(
                call.services.database,
                repository_id=repository.id,
                digest=str(manifest.digest),
                seconds=wait,
            )
        elif wait:
            raise RequestInvalidError("wait needs a tag or a digest")
        else:
            repository = await find_readable(call.services.database, actor=call.actor, name=image)
            found = await reading.list_trials(
                call.services.database, actor=call.actor, repository=repository.name
            )
    return [_shown(call, trial) for trial in found]


async def start_trial(call: Call) -> object:
    """Try an image again, or under a run spec of the request's own."""
    body = await call.body(Request)
    repository, manifest = await _find(call, body.image)
    require(call.actor, "push", repository.name, repository.visibility)
    services = call.services
    trial_id = await requests.start(
        services.database,
        services.settings,
        repository_id=repository.id,
        digest=str(manifest.digest),
        spec=await given_run_spec(call, body.spec),
        created_by=call.actor.shown,
    )
    return _shown(call, await reading.show_trial(services.database, actor=call.actor, trial_id=trial_id))


async def show_trial(call: Call) -> object:
    """One trial with its parts and runs."""
    call.query()
    return _shown(call, await _trial(call))


async def show_log(call: Call) -> object:
    """What the image wrote, as text; for those who may push."""
    call.query()
    trial = await _trial(call)
    if not _may_read_log(call, trial):
        raise DeniedError(
            f"the log is for those who may push to {trial.repository}; verdict and reason are for all readers"
        )
    several = len(trial.runs) > 1
    texts = [f"== {run.platform} {run.name} ==\n{run.log}" if several else run.log for run in trial.runs]
    return web.Response(
        text="\n".join(text or "" for text in texts),
        content_type="text/plain",
        charset="utf-8",
        headers={"Cache-Control": "no-store", "Content-Security-Policy": "sandbox"},
    )


async def explain(call: Call) -> object:
    """What the gate says to the caller about an image, and why."""
    asked = call.query("image", "tag", "digest")
    repository, manifest = await _find(call, _named(asked))
    services = call.services
    question, decision = await explain_manifest(
        services.database, services.settings, actor=call.actor, repository=repository, manifest=manifest
    )
    return {
        "image": repository.name,
        "digest": str(manifest.digest),
        "gate": question.gate,
        "state": question.state,
        "reason": question.reason,
        "may_push": question.may_push,
        "decision": _decision(decision),
        "sentence": _sentence(decision),
        "explain": decision.explain,
    }


async def block(call: Call) -> object:
    """Refuse an image to everybody, whatever its verdict."""
    body = await call.body(Block)
    if not body.reason.strip() or not body.reason.isprintable() or len(body.reason) > REASON_MAX:
        raise RequestInvalidError(f"reason: one line of 1 to {REASON_MAX} characters")
    await _set_block(call, body.image, body.reason)
    return None


async def unblock(call: Call) -> object:
    """Let an image be what its verdict makes it."""
    await _set_block(call, (await call.body(Image)).image, None)
    return None


async def _set_block(call: Call, image: str, reason: str | None) -> None:
    repository, manifest = await _find(call, image)
    await blocking.set_block(
        call.services.database,
        repository_id=repository.id,
        repository=repository.name,
        digest=str(manifest.digest),
        reason=reason,
        actor=call.actor,
    )


async def _find(call: Call, image: str) -> tuple[Repository, StoredManifest]:
    name, tag, digest = split_repository_reference(image)
    repository = await find_readable(call.services.database, actor=call.actor, name=name)
    reference = parse_content_digest(str(digest)) if digest else (tag or "latest")
    stored = await manifests.get(call.services.database, repository, reference)
    return repository, stored


async def _trial(call: Call) -> TrialView:
    return await reading.show_trial(call.services.database, actor=call.actor, trial_id=call.path("id"))


def _named(asked: dict[str, str]) -> str:
    """``image`` with the tag or digest given beside it."""
    image = asked.get("image", "")
    if not image:
        raise RequestInvalidError("image is missing")
    if "tag" in asked and "digest" in asked:
        raise RequestInvalidError("give a tag or a digest, not both")
    if ("tag" in asked or "digest" in asked) and (":" in image or "@" in image):
        raise RequestInvalidError("the image has a tag or digest already")
    if "tag" in asked:
        return f"{image}:{parse_tag(asked['tag'])}"
    if "digest" in asked:
        return f"{image}@{parse_content_digest(asked['digest'])}"
    return image


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= WAIT_MAX_SECONDS:
        raise RequestInvalidError(f"wait must be 0 to {WAIT_MAX_SECONDS:g} seconds")
    return seconds


def _may_read_log(call: Call, trial: TrialView) -> bool:
    return may_push(call.actor, name=trial.repository, visibility=trial.visibility)


def _shown(call: Call, trial: TrialView) -> dict[str, object]:
    with_log = _may_read_log(call, trial)
    return {
        "id": trial.id,
        "image": trial.repository,
        "digest": trial.digest,
        "state": trial.state,
        "verdict": trial.verdict,
        "reason": trial.reason,
        "cause": trial.cause,
        "created_by": trial.created_by,
        "created_at": shown_time(trial.created_at),
        "finished_at": shown_time(trial.finished_at),
        "parts": [asdict(part) for part in trial.parts],
        "runs": [_shown_run(run, with_log=with_log) for run in trial.runs],
    }


def _shown_run(run: RunView, *, with_log: bool) -> dict[str, object]:
    shown = asdict(run)
    return shown if with_log else {**shown, "log": None}


def _decision(decision: Decision) -> str:
    match decision:
        case Admit():
            return "admit"
        case AdmitWithWarning():
            return "admit-with-warning"
        case Wait():
            return "wait"
        case Refuse():
            return "refuse"


def _sentence(decision: Decision) -> str:
    match decision:
        case Admit():
            return ""
        case AdmitWithWarning(text=text):
            return text
        case Wait(then=refusal) | (Refuse() as refusal):
            return refusal.sentence


ROUTES = (
    Route("GET", "/trials", "anyone", list_trials),
    Route("POST", "/trials", "anyone", start_trial, status=201),
    Route("GET", "/trials/{id}", "anyone", show_trial),
    Route("GET", "/trials/{id}/log", "anyone", show_log),
    Route("GET", "/gate", "anyone", explain),
    Route("POST", "/gate/block", "admin", block),
    Route("POST", "/gate/unblock", "admin", unblock),
)
