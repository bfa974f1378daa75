"""Trials as people and pipelines read them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Row, case, func, null, select

from registry.auth.actor import stored_workload
from registry.auth.policy import reads_trials
from registry.db.content import repositories
from registry.db.dialect import batches
from registry.db.trials import parts, runs, trial_parts, trials
from registry.db.upstreams import upstream_copies, upstreams
from registry.errors import NotFoundError
from registry.trials.asking import may_read_log
from registry.trials.caps import find_reached, why_held
from registry.trials.demands import why_waiting
from registry.trials.findingsreading import FindingsView, findings_in
from registry.trials.history import ALL, Wanted, newest
from registry.trials.room import why_no_room
from registry.trials.scanned import Scanned, parse_scanned
from registry.trials.specs import SCAN_ALONE_DIGEST
from registry.trials.waiting import looks

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor, Workload
    from registry.auth.policy import Visibility
    from registry.db.engine import Database
    from registry.settings import Settings

LIST_MAX = 50
LOG_TAIL_CHARACTERS = 16 * 1024


@dataclass(frozen=True, slots=True)
class RunView:
    """One container execution of a trial. ``log`` is ``None`` for those who may not read it."""

    part: str
    platform: str
    name: str
    command: Sequence[str]
    exit_code: int | None
    signal: int | None
    reason: str
    oom_killed: bool
    seconds: float
    cpu_seconds: float | None
    memory_peak_bytes: int | None
    log: str | None
    log_truncated: bool
    observations: Sequence[Mapping[str, Any]]
    case: str | None
    """Of which case of the spec; null where it has none."""
    attempt: int | None
    """Which attempt at the case; null where there is but one."""
    log_kept: bool
    """Whether its log is still kept; where not, ``log`` is empty."""

    @property
    def title(self) -> str:
        """Its name, with the attempt where there may be several."""
        return self.name if self.attempt is None else f"{self.name}, attempt {self.attempt}"


@dataclass(frozen=True, slots=True)
class PartView:
    """A trial's share for one platform. ``record`` is what the worker reported beside its runs, and under
    ``runs`` in their order what they used and tried to reach."""

    id: str
    digest: str
    platform: str
    state: str
    verdict: str | None
    reason: str
    attempts: int
    worker: str | None
    record: Mapping[str, Any] | None
    flaky_attempts: int
    """How many attempts failed before one passed."""
    reused_from: str | None = None
    """The trial whose report was judged anew; null: this part was run."""
    scan: Scanned | None = None
    """Whether its image was scanned; null: no worker was asked to."""
    scan_alone: bool = False
    """Whether nothing of the image is run, since the run spec asks for the scan alone."""
    findings: FindingsView | None = None
    """What the repository's findings policy makes of the image now; null: it has none, or is at it."""


@dataclass(frozen=True, slots=True)
class TrialView:
    """A trial with everything below it."""

    id: str
    repository: str
    visibility: Visibility
    digest: str
    state: str
    verdict: str | None
    reason: str
    cause: str
    created_by: str
    workload: Workload | None
    created_at: datetime
    finished_at: datetime | None
    spec_digest: str
    upstream: str | None = None
    """Of an image of another registry: the upstream's name, a slash, and what was asked for there."""
    parts: Sequence[PartView] = ()
    runs: Sequence[RunView] = ()

    @property
    def image(self) -> str:
        """What was tried, as reports name it."""
        return self.upstream or f"{self.repository}@{self.digest}"

    @property
    def flaky_attempts(self) -> int:
        """Of all its parts together."""
        return sum(part.flaky_attempts for part in self.parts)

    @property
    def flaky(self) -> bool:
        """Whether it passed only after it had failed."""
        return self.flaky_attempts > 0


Logs = Literal["whole", "tail", "none"]
"""How much of each log to read, for those who may read it at all."""


async def wait_for_trials(
    database: Database, settings: Settings, *, actor: Actor, repository_id: int, digest: str, seconds: float
) -> Sequence[TrialView]:
    """The trials of an image, newest first, as soon as the newest has a verdict or time is up.

    An image that has no trial gets none by waiting.
    """
    found: Sequence[TrialView] = ()
    newest = (
        select(trials.c.state)
        .where(trials.c.repository_id == repository_id, trials.c.digest == digest)
        .order_by(trials.c.created_at.desc(), trials.c.id.desc())
        .limit(1)
    )
    async for _ in looks(database, seconds=seconds):
        async with database.read() as connection:
            if (await connection.execute(newest)).scalar_one_or_none() in (None, "done"):
                break
    async with database.read() as connection:
        query = _trials().where(trials.c.repository_id == repository_id, trials.c.digest == digest)
        found = [_view(row) for row in await connection.execute(query.limit(LIST_MAX))]
        return await _filled(connection, settings, found, actor=actor, logs="tail")


async def list_trials(
    database: Database,
    settings: Settings,
    *,
    actor: Actor,
    repository: str | None = None,
    wanted: Wanted = ALL,
    limit: int = LIST_MAX,
    before: str | None = None,
) -> Sequence[TrialView]:
    """The newest trials in the repositories that the actor may pull from, or in one of them; at most
    ``limit``, those older than the trial ``before``."""
    async with database.read() as connection:
        ids = await newest(
            database,
            connection,
            actor=actor,
            repository=repository,
            wanted=wanted,
            limit=limit,
            before=before,
        )
        found = await connection.execute(_trials().where(trials.c.id.in_(ids)))
        return await _filled(connection, settings, [_view(row) for row in found], actor=actor, logs="tail")


async def show_trial(
    database: Database, settings: Settings, *, actor: Actor, trial_id: str, logs: Logs = "whole"
) -> TrialView:
    """One trial.

    Raises:
        NotFoundError: there is none, or it is in a repository that the actor may not pull from.
    """
    async with database.read() as connection:
        row = (await connection.execute(_trials().where(trials.c.id == trial_id))).first()
        trial = None if row is None else _view(row)
        if trial is None or not reads_trials(actor, trial.repository, trial.visibility):
            raise NotFoundError("there is no such trial, or it is not yours to see")
        (filled,) = await _filled(connection, settings, [trial], actor=actor, logs=logs)
        return filled


def _view(row: Row[Any]) -> TrialView:
    return TrialView(**{**row._asdict(), "workload": stored_workload(row.workload)})


def _trials() -> Select[Any]:
    return (
        select(
            trials.c.id,
            repositories.c.name.label("repository"),
            repositories.c.visibility,
            trials.c.digest,
            trials.c.state,
            trials.c.verdict,
            trials.c.reason,
            trials.c.cause,
            trials.c.created_by,
            trials.c.workload,
            trials.c.created_at,
            trials.c.finished_at,
            trials.c.spec_digest,
            (upstreams.c.name + "/" + upstream_copies.c.image).label("upstream"),
        )
        .join(repositories, repositories.c.id == trials.c.repository_id)
        .outerjoin(upstream_copies, upstream_copies.c.trial_id == trials.c.id)
        .outerjoin(upstreams, upstreams.c.id == upstream_copies.c.upstream_id)
        .order_by(trials.c.created_at.desc(), trials.c.id.desc())
    )


async def _filled(
    connection: AsyncConnection,
    settings: Settings,
    found: Sequence[TrialView],
    *,
    actor: Actor,
    logs: Logs,
) -> Sequence[TrialView]:
    """The trials with their parts and runs: so many queries for all of them as for one. What the actor may
    not read is not read here either."""
    views: dict[str, list[PartView]] = {trial.id: [] for trial in found}
    linked = (
        select(
            trial_parts.c.trial_id,
            parts.c.id,
            parts.c.digest,
            parts.c.platform,
            parts.c.state,
            parts.c.verdict,
            parts.c.reason,
            parts.c.attempts,
            parts.c.worker,
            parts.c.record,
            func.coalesce(parts.c.flaky, 0).label("flaky_attempts"),
            parts.c.reused_from,
            parts.c.scan,
            (parts.c.spec_digest == SCAN_ALONE_DIGEST).label("scan_alone"),
            parts.c.required,
            parts.c.asked_by,
            parts.c.repository_id,
        )
        .join(trial_parts, trial_parts.c.part_id == parts.c.id)
        .where(trial_parts.c.trial_id.in_(views))
        .order_by(parts.c.platform, parts.c.digest)
    )
    rows = (await connection.execute(linked)).all()
    readable = {
        trial.id: may_read_log(actor, repository=trial.repository, visibility=trial.visibility)
        for trial in found
    }
    findings = await findings_in(connection, {(row.repository_id, row.digest) for row in rows})
    queued = [row for row in rows if row.state == "queued"]
    repository_of = {trial.id: trial.repository for trial in found}
    names = {row.id: repository_of[row.trial_id] for row in queued}
    held = await why_held_of(connection, settings, queued, names)
    for row in rows:
        values = row._asdict() | {"record": None if row.record is None else json.loads(row.record)}
        values["scan"] = parse_scanned(row.scan)
        values["reason"] = held.get(row.id, row.reason)
        if (judged := findings.get((row.repository_id, row.digest))) is not None:
            values["findings"] = judged if readable[row.trial_id] else judged.shortened()
        del values["required"], values["asked_by"], values["repository_id"]
        views[values.pop("trial_id")].append(PartView(**values))
    of_logs: dict[Logs, set[str]] = {}
    for trial in found:
        of_logs.setdefault(logs if readable[trial.id] else "none", set()).update(
            one.id for one in views[trial.id]
        )
    runs_of: dict[str, Sequence[tuple[datetime, RunView]]] = {}
    for much, part_ids in of_logs.items():
        runs_of |= await _runs(connection, part_ids, logs=much)
    return [
        replace(
            trial,
            reason=trial.reason or _why_queued(trial, views[trial.id], held),
            parts=views[trial.id],
            runs=[
                run
                for view in sorted(views[trial.id], key=lambda view: (view.platform, view.id))
                for finished_at, run in runs_of.get(view.id, ())
                # A part that was asked again since then belongs to a newer trial.
                if trial.finished_at is None or finished_at <= trial.finished_at
            ],
        )
        for trial in found
    ]


async def why_held_of(
    connection: AsyncConnection, settings: Settings, queued: Sequence[Any], repository_of: Mapping[str, str]
) -> Mapping[str, str]:
    """For each of these parts that no worker is given now: why, in words; ``repository_of`` them by id."""
    if not queued:
        return {}
    demands = await why_waiting(connection, {row.required for row in queued})
    roomless = await why_no_room(connection, {row.id for row in queued})
    reached = await find_reached(connection, settings)
    reasons = {
        row.id: why_held(reached, repository_of[row.id], row.asked_by)
        or demands.get(row.required)
        or roomless.get(row.id)
        for row in queued
    }
    return {part_id: why for part_id, why in reasons.items() if why}


async def why_not_run(
    database: Database, settings: Settings, *, repository_id: int, repository: str, digest: str
) -> str:
    """Why an image whose trial waits is not run now: a cap, or what no worker has; empty where one comes to
    it, or nothing waits."""
    query = (
        select(parts.c.id, parts.c.required, parts.c.asked_by)
        .join(trial_parts, trial_parts.c.part_id == parts.c.id)
        .join(trials, trials.c.id == trial_parts.c.trial_id)
        .where(
            trials.c.repository_id == repository_id,
            trials.c.digest == digest,
            trials.c.state != "done",
            parts.c.state == "queued",
        )
        .order_by(parts.c.id)
    )
    async with database.read() as connection:
        queued = (await connection.execute(query)).all()
        names = {row.id: repository for row in queued}
        held = await why_held_of(connection, settings, queued, names)
    return next((held[row.id] for row in queued if row.id in held), "")


def _why_queued(trial: TrialView, views: Sequence[PartView], held: Mapping[str, str]) -> str:
    """Why nothing happens, where a part of it waits for a worker that there is not, or below a cap."""
    if trial.state == "done":
        return ""
    if not views and trial.upstream is not None:
        return "its image is copied from the other registry first"
    return next((held[view.id] for view in views if view.id in held), "")


async def _runs(
    connection: AsyncConnection, part_ids: Collection[str], *, logs: Logs
) -> Mapping[str, Sequence[tuple[datetime, RunView]]]:
    """The runs of each part in their order, with the time when each ended."""
    length = func.length(runs.c.log)
    cut = length > LOG_TAIL_CHARACTERS
    last = case((cut, func.substr(runs.c.log, length - LOG_TAIL_CHARACTERS + 1)), else_=runs.c.log)
    log = {"whole": runs.c.log, "tail": last, "none": null()}[logs]
    query = (
        select(
            runs.c.finished_at,
            runs.c.part_id,
            parts.c.platform,
            runs.c.name,
            runs.c.command,
            runs.c.exit_code,
            runs.c.signal,
            runs.c.reason,
            runs.c.oom_killed,
            runs.c.seconds,
            runs.c.cpu_seconds,
            runs.c.memory_peak_bytes,
            log,
            (runs.c.log_truncated | cut) if logs == "tail" else runs.c.log_truncated,
            runs.c.observations,
            runs.c.case_name,
            runs.c.case_attempt,
            runs.c.log_removed.is_not(True),
        )
        .join(parts, parts.c.id == runs.c.part_id)
        .order_by(runs.c.part_id, runs.c.id)
    )
    found: dict[str, list[tuple[datetime, RunView]]] = {}
    for batch in batches(part_ids):
        for finished_at, *columns in await connection.execute(query.where(runs.c.part_id.in_(batch))):
            run = _run_view(*columns)
            found.setdefault(run.part, []).append((finished_at, run))
    return found


def _run_view(*columns: Any) -> RunView:
    values = list(columns)
    for position in (3, 13):
        values[position] = json.loads(values[position])
    return RunView(*values)
