"""A trial: why its verdict, what was expected and seen, how it was run, what it wrote, also while it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from markupsafe import Markup

from registry.auth.policy import decide
from registry.contract.judge import Verdict
from registry.contract.use import SECONDS_MAX, how_it_ended, shown_seconds, use_lines
from registry.errors import ConflictError
from registry.http.api import livelog
from registry.http.api.logrights import require_log
from registry.http.api.routes import Call, read_query
from registry.http.api.trials import Request, start_trial
from registry.http.parsers import PARSERS
from registry.pages import plots
from registry.pages.rendering import Lines, chosen, host_of, page, short_digest
from registry.pages.serving import CursorQuery, moved
from registry.pages.terminal import Terminal, shown_log
from registry.pages.texts import text
from registry.pages.visible import visible
from registry.trials import reading
from registry.trials.asking import may_read_log
from registry.trials.formats.outcomes import PartOutcome, RunOutcome, outcomes_of
from registry.trials.history import Wanted, list_newest
from registry.trials.livelog import Output, read_so_far

if TYPE_CHECKING:
    from aiohttp import web

    from registry.trials.reading import TrialView

SHOWN = 50


@dataclass(frozen=True, slots=True)
class StepShown:
    """A step with its seconds; where it begins in the picture and how wide it is there, of 100."""

    name: str
    seconds: str
    begins: float
    width: float


@dataclass(frozen=True, slots=True)
class RunShown:
    """A run with what came of its expectations, and its use over its time as lines."""

    outcome: RunOutcome
    ended: str
    seconds: str
    use: Sequence[str]
    plots: Sequence[plots.Plot]
    log: Markup | None


@dataclass(frozen=True, slots=True)
class PartShown:
    """A part with its runs, and the steps before its first one after another."""

    outcome: PartOutcome
    runs: Sequence[RunShown]
    record: Mapping[str, Any]
    steps: Sequence[StepShown]


class TrialsQuery(CursorQuery):
    """Which trials."""

    verdict: Verdict | None = None


async def show_trials(call: Call) -> web.Response:
    """The newest trials of all repositories that the visitor may pull from."""
    query = read_query(call.request, TrialsQuery, leaves_out_empty=True)
    found = await list_newest(
        call.services.database,
        actor=call.actor,
        wanted=Wanted(verdict=query.verdict),
        limit=SHOWN + 1,
        before=query.cursor,
    )
    shown, kept = found[:SHOWN], [("verdict", query.verdict)]
    following = shown[-1][1].id if len(found) > SHOWN else None
    return page(
        call.request,
        "trials.html",
        title=text("nav.trials"),
        trials=shown,
        verdict=query.verdict,
        verdicts=get_args(Verdict),
        next_path="/trials" + chosen([*kept, ("cursor", following)]) if following else None,
        first_path="/trials" + chosen(kept) if query.cursor else None,
        lines=Lines(api=["GET /api/v1/trials"], cli=["seatrial trial list"]),
    )


async def show_trial(call: Call) -> web.Response:
    """Everything about one trial, with the end of each log for those who may read it."""
    trial = await _trial(call, logs="tail")
    reads = may_read_log(call.actor, repository=trial.repository, visibility=trial.visibility)
    image = f"{trial.repository}@{trial.digest}"
    return page(
        call.request,
        "trial.html",
        title=text("trial.title", image=trial.upstream or f"{trial.repository}@{short_digest(trial.digest)}"),
        trial=trial,
        parts=await call.request.app[PARSERS].run(_parts, trial),
        reads_log=reads,
        is_live=trial.state != "done" and reads,
        cancels=trial.state != "done"
        and decide(call.actor, "trial", trial.repository, trial.visibility).allowed,
        tries=trial.state == "done"
        and trial.upstream is None
        and decide(call.actor, "trial", trial.repository, trial.visibility).allowed,
        locally=f"seatrial run {host_of(call.request)}/{image}" if trial.upstream is None else "",
        plot=(plots.WIDTH, plots.HEIGHT),
        lines=Lines(
            api=[f"GET /api/v1/trials/{trial.id}", f"GET /api/v1/trials/{trial.id}/log/live"],
            cli=[
                f"seatrial trial show {trial.id}",
                f"seatrial trial log {trial.id} --follow",
                f"seatrial run {host_of(call.request)}/{image}",
            ],
        ),
    )


async def show_trial_log(call: Call) -> web.Response:
    """The whole of what the image wrote, as far as it is there by now."""
    trial = await _trial(call, logs="whole")
    require_log(call.actor, repository=trial.repository, visibility=trial.visibility)
    going_on = [] if trial.state == "done" else await read_so_far(call.services.database, trial.id)
    logs = await call.request.app[PARSERS].run(_logs, trial, going_on)
    return page(
        call.request,
        "trial-log.html",
        title=text("trial.log_of", image=f"{trial.repository}@{short_digest(trial.digest)}"),
        trial=trial,
        logs=logs,
        lines=Lines(api=[f"GET /api/v1/trials/{trial.id}/log"], cli=[f"seatrial trial log {trial.id}"]),
    )


async def follow_trial(call: Call) -> web.StreamResponse:
    """What the image writes, while it does, as fragments of the trial's page in server-sent events."""
    terminals: dict[object, Terminal] = {}
    last: list[object] = [None]

    def write(event: livelog.Event) -> str:
        data = event.data
        if event.kind == "log":
            which = (data["platform"], data["run"], data["attempt"])
            drawn = terminals.setdefault(which, Terminal()).take(str(data["text"]))
            if last[0] != which:
                last[0] = which
                head = Markup('<strong class="of">{} {}</strong>\n').format(data["platform"], data["run"])
                drawn = head + drawn
            # What a browser would take away at the ends of a fragment stands inside.
            return livelog.framed(event, f"<span>{drawn}</span>")
        if event.kind == "part":
            standing = data["state"]
            said = f"{data['platform']}: {text(f'part.{standing}')}"
            return livelog.framed(event, _paragraph(said, data["reason"]))
        return livelog.framed(event, _paragraph(text(f"live.{event.kind}"), data["reason"]))

    seconds = read_query(call.request, livelog.LiveQuery).wait
    return await livelog.follow(call, call.request.match_info["trial"], seconds=seconds, write=write)


async def try_again(call: Call) -> web.Response:
    """Start another trial of the image, and go to it."""
    trial = await _trial(call, logs="none")
    if trial.upstream is not None:
        raise ConflictError(
            "an image of another registry is tried again by 'seatrial trial start --upstream'"
        )
    begun = await start_trial(call, Request(image=f"{trial.repository}@{trial.digest}"))
    return moved(call, f"/trials/{begun.id}")


async def _trial(call: Call, *, logs: reading.Logs) -> TrialView:
    services = call.services
    return await reading.show_trial(
        services.database,
        services.settings,
        actor=call.actor,
        trial_id=call.request.match_info["trial"],
        logs=logs,
    )


def _logs(trial: TrialView, going_on: Sequence[Output]) -> list[tuple[str, Markup, bool, bool]]:
    """The whole logs of a trial, which may be some megabytes: not for the event loop."""
    told = [
        (f"{run.platform} {run.title}", shown_log(run.log or ""), run.log_kept, run.log_truncated)
        for run in trial.runs
    ]
    return told + [(f"{one.platform} {one.run}", shown_log(one.text), True, False) for one in going_on]


def _parts(trial: TrialView) -> list[PartShown]:
    return [_part(trial, outcome) for outcome in outcomes_of(trial)]


def _part(trial: TrialView, outcome: PartOutcome) -> PartShown:
    record: Mapping[str, Any] = outcome.part.record or {}
    kept = {(used["name"], used.get("attempt")): used for used in record.get("runs") or ()}
    runs = []
    for one in outcome.runs:
        run = one.run
        used = kept.get((run.name, run.attempt), {})
        whole = {
            "reason": run.reason,
            "signal": run.signal,
            "exit_code": run.exit_code,
            "oom_killed": run.oom_killed,
            "seconds": run.seconds,
            "cpu_seconds": run.cpu_seconds,
            "memory_peak_bytes": run.memory_peak_bytes,
            **used,
        }
        pictures = plots.plots_of(whole)
        in_pictures = ["memory over its time: ", "processor over its time: "]
        in_pictures += ["refused: "] if any(one.kind == "pids" for one in pictures) else []
        lines = [line for line in use_lines(whole) if not line.startswith(tuple(in_pictures))]
        log = shown_log(run.log) if run.log is not None and run.log_kept else None
        runs.append(RunShown(one, how_it_ended(whole), shown_seconds(run.seconds), lines, pictures, log))
    return PartShown(outcome, runs, record, _steps(record))


def _steps(record: Mapping[str, Any]) -> Sequence[StepShown]:
    said = [(str(step["name"]), max(0.0, float(step["seconds"]))) for step in record.get("steps") or ()]
    # As much as can be: what a worker says has no sum, else.
    steps = [(name, shown_seconds(seconds, 3), min(seconds, SECONDS_MAX)) for name, seconds in said]
    whole, begins, found = sum(seconds for *_, seconds in steps) or 1.0, 0.0, []
    for name, shown, seconds in steps:
        # So narrow that nobody saw it is wider than it was.
        width = max(100 * seconds / whole, 0.5)
        found.append(StepShown(name, shown, min(100 * begins / whole, 100 - width), width))
        begins += seconds
    return found


def _paragraph(said: str, reason: object) -> Markup:
    words = f"{said}; {reason}" if reason else said
    return Markup("<p>{}</p>").format(visible(" ".join(words.split())))
