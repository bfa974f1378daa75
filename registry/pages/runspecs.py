"""What is expected of a repository's images: its run spec, shown, checked, tried with an image, and saved.

What was typed stays where something is wrong with it, with each mistake beside its line.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from registry.auth.policy import decide
from registry.content.administration import find
from registry.contract.examples import EXAMPLES
from registry.contract.plan import make_plans
from registry.contract.runspec import RunSpec
from registry.contract.specfile import Problem, SpecInvalidError, as_yaml, parse_run_spec
from registry.errors import RequestInvalidError
from registry.http.api.history import HistoryQuery, list_past_trials
from registry.http.api.models import Query
from registry.http.api.repositories import RepositoryChange, change_repository, show_repository
from registry.http.api.routes import Call, read_query
from registry.http.api.trials import Request, start_trial
from registry.http.parsers import PARSERS
from registry.oci.imageconfig import ImageConfig
from registry.oci.platform import Platform
from registry.pages.rendering import Lines, page, shown_whole, whole
from registry.pages.serving import Fields, as_seen, field, given_body, moved, read_form, require_sure
from registry.pages.texts import text
from registry.trials.specs import IMAGE_SUGGESTED

if TYPE_CHECKING:
    from aiohttp import web

    from registry.settings import Settings

TRIALS_SHOWN = 10
_OWN_COMMAND = "(the image's own command)"


class RunSpecQuery(Query):
    """What to begin with, instead of what is there."""

    example: str | None = None


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong with a line of a text."""

    problem: Problem
    line: str


@dataclass(frozen=True, slots=True)
class Given:
    """What somebody typed, and what came of it: ``mistakes``, or what is run by it, each case with what is
    tested. ``seen`` is the entity tag of what he began with."""

    spec: str
    image: str = ""
    seen: str | None = None
    mistakes: Sequence[Mistake] = ()
    runs: Sequence[tuple[str, str]] | None = None
    digest: str = ""
    status: int = 200


async def show_run_spec(call: Call) -> web.Response:
    """What is run, what is expected, of which pushes, and what was tried by it; with a form to change it."""
    example = read_query(call.request, RunSpecQuery, leaves_out_empty=True).example
    if example is not None and example not in EXAMPLES:
        raise RequestInvalidError(f"there is no example {example[:80]!r}; there are {', '.join(EXAMPLES)}")
    return await _page(call, None if example is None else Given(EXAMPLES[example].spec))


async def check_run_spec(call: Call) -> web.Response:
    """Say what is wrong with a run spec, or what it comes to; nothing is changed."""
    name = call.request.match_info["name"]
    await find(call.services.database, actor=call.actor, action="trial", name=name)
    fields = read_form(call)
    spec, image = fields.get("spec", ""), fields.get("image", "")
    try:
        checked = await call.request.app[PARSERS].run(parse_run_spec, spec)
        runs = await call.request.app[PARSERS].run(_comes_to, checked, call.services.settings)
    except SpecInvalidError as error:
        return await _page(call, _refused(fields, error))
    return await _page(call, Given(spec, image, fields.get("seen"), runs=runs, digest=str(checked.digest)))


async def save_run_spec(call: Call) -> web.Response:
    """Let this be expected of what is pushed from now on, and of what still waits for its verdict."""
    name = call.request.match_info["name"]
    await find(call.services.database, actor=call.actor, action="configure", name=name)
    fields = read_form(call)
    wanted = given_body(RepositoryChange, run_spec=fields.get("spec", ""))
    try:
        await change_repository(call, name, wanted, as_seen(call))
    except SpecInvalidError as error:
        return await _page(call, _refused(fields, error))
    return moved(call, f"/r/{name}/-/run-spec")


async def try_run_spec(call: Call) -> web.Response:
    """Try an image by a run spec that is not saved, and show the trial."""
    name = call.request.match_info["name"]
    await find(call.services.database, actor=call.actor, action="trial", name=name)
    fields = read_form(call)
    spec, image = fields.get("spec", ""), fields.get("image", "")
    try:
        named = f"{name}{'@' if ':' in image else ':'}{field(fields, 'image')}"
        started = await start_trial(call, given_body(Request, image=named, spec=spec))
    except SpecInvalidError as error:
        return await _page(call, _refused(fields, error))
    return moved(call, f"/trials/{started.id}")


async def clear_run_spec(call: Call) -> web.Response:
    """Let images say themselves what is to be expected of them."""
    name = call.request.match_info["name"]
    await find(call.services.database, actor=call.actor, action="configure", name=name)
    require_sure(read_form(call), text("sure.run_spec", on=name), comes_to=text("sure.policy.then"))
    await change_repository(call, name, RepositoryChange(run_spec=None), as_seen(call))
    return moved(call, f"/r/{name}/-/run-spec")


def mistakes_of(spec: str, problems: Sequence[Problem]) -> Sequence[Mistake]:
    """Each with its line of the text."""
    lines = spec.split("\n")
    return [Mistake(one, lines[one.line - 1].strip() if one.line <= len(lines) else "") for one in problems]


def _refused(fields: Fields, error: SpecInvalidError) -> Given:
    """What is wrong with lines stands beside them."""
    spec = fields.get("spec", "")
    return Given(
        spec,
        fields.get("image", ""),
        fields.get("seen"),
        mistakes=mistakes_of(spec, error.problems),
        status=error.status,
    )


def _comes_to(spec: RunSpec, settings: Settings) -> Sequence[tuple[str, str]]:
    """The cases that are run, and what is tested in each.

    Raises:
        RequestInvalidError: together they are more than a trial may be.
    """
    if spec.is_scan_alone:
        return []
    plans = make_plans(
        ImageConfig(Platform("linux", "amd64"), (), cmd=(_OWN_COMMAND,)),
        spec,
        limits=settings.limits,
        ceiling=settings.ceiling,
        image_spec_allowed=False,
        secrets=dict.fromkeys(spec.secrets(), ""),
    )
    cases = spec.by_case()
    found = []
    for plan in plans:
        expect = cases[plan.asked.case].expect
        suggested = not expect.tells() and expect.stop is None
        found.append((plan.asked.case, text("runspec.suggested") if suggested else plan.tested))
    return found


async def _page(call: Call, given: Given | None) -> web.Response:
    name = call.request.match_info["name"]
    repository = await show_repository(call, name)
    trials = await list_past_trials(call, name, HistoryQuery(limit=TRIALS_SHOWN))
    stored = repository.run_spec
    spec = "" if stored is None else as_yaml(stored)
    digest, named = IMAGE_SUGGESTED, frozenset[str]()
    if stored is not None:
        parsed = RunSpec.model_validate_json(json.dumps(stored))
        digest, named = str(parsed.digest), parsed.secrets()
    return page(
        call.request,
        "run-spec.html",
        title=text("runspec.title", name=name),
        name=name,
        here_tab="gate",
        here_part="run-spec",
        path=f"/r/{name}/-/run-spec",
        repository=repository,
        stands=shown_whole(spec),
        digest=digest,
        secrets=sorted(named),
        given=given,
        seen=repository.etag if given is None or given.seen is None else given.seen,
        # What is sent back is what was typed, to the letter.
        typed=whole(spec if given is None else given.spec),
        examples=EXAMPLES,
        trials=trials.items,
        manages=decide(call.actor, "configure", name, repository.visibility).allowed,
        tries=decide(call.actor, "trial", name, repository.visibility).allowed,
        status=200 if given is None else given.status,
        lines=Lines(
            api=[f"PATCH /api/v1/repositories/{quote(name, '')}", "POST /api/v1/trials"],
            cli=[
                "seatrial spec check spec.yaml",
                f"seatrial repo set {name} --run-spec spec.yaml",
                f"seatrial trial start {name}:TAG --spec spec.yaml",
            ],
        ),
    )
