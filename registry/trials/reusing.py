"""What was run already is judged anew and not run again.

Of a new image of a repository the report is taken that is kept of the same image under the same run spec, in
the same namespace. With it comes its scan, and nothing else: no state, no verdict of another repository's
policy, no log.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from sqlalchemy import and_, func, insert, or_, select

from registry.auth.bindings import Binding
from registry.auth.policy import decide, namespace_of
from registry.contract import PROTOCOL_VERSION
from registry.contract.asked import asked_by
from registry.contract.isolation import SPEC_NEWS, STUBS
from registry.contract.judge import Judgement, judge
from registry.contract.report import Report
from registry.contract.scan import SCANS
from registry.db.accounts import accounts, workers
from registry.db.content import repositories
from registry.db.trials import parts, runs, trial_parts, trials
from registry.db.types import db_time
from registry.trials.asking import max_verdict_age
from registry.trials.demands import met, parse_demand
from registry.trials.findingspolicies import has_policy
from registry.trials.imagespecs import needs_with
from registry.trials.platforms import is_run
from registry.trials.present import ASKING
from registry.trials.scancarrying import CarriedScan, count_scans, hold_scans
from registry.trials.scanned import OFF, UNABLE
from registry.trials.scanners import is_any
from registry.trials.specs import limits_digest, required_by, spec_digest, worker_needs
from registry.trials.states import REASON_MAX, plain_text

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.settings import Settings
    from registry.trials.images import RunnableImage

_CANDIDATES_MAX = 20
"""How many kept reports are thought of for one push."""
_LOADED_MAX = 10
"""How many of them are read: they may be large, and a push waits."""
_IN_THE_SPEC = frozenset({STUBS})
"""What of a run spec not every worker knows, and still means the same wherever the spec stands."""


@dataclass(frozen=True, slots=True)
class Sought:
    """What is asked in a repository about images, and by whom. ``run_spec`` is canonical JSON."""

    repository: str
    run_spec: str | None
    image_spec_allowed: bool
    images: Collection[RunnableImage]
    actor: Actor
    attached: Mapping[str, str]
    """What is attached to images as referrers, by their digests."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A report that is kept, judged anew: the columns of a part that it answers, and its runs."""

    answer: Mapping[str, Any]
    runs: Sequence[Mapping[str, Any]]
    scan_id: int | None
    """The scan that goes with it."""


def ran_with(report: Report) -> str:
    """With what a worker ran, as rows keep it: the runtime, and the isolation that it went without."""
    return json.dumps([report.runtime, *sorted(set(report.downgrades))])


def vouches(trusted: Mapping[str, datetime | None], part: Any) -> bool:
    """Whether the worker that ran a part is trusted, and has been since. ``trusted`` says when each was let
    in again that was revoked, and ``None`` of the others."""
    if part.worker not in trusted:
        return False
    admitted_at = trusted[part.worker]
    return admitted_at is None or admitted_at <= part.finished_at


async def kept_reports(
    connection: AsyncConnection, settings: Settings, sought: Sought
) -> Mapping[RunnableImage, Kept]:
    """What answers the question about images without a run.

    A report counts that is of the same manifest, run spec and platform, in a repository of the same namespace
    that the actor may read; that is no older than a verdict may be, and was made under the limits of now;
    whose worker may try what is in this repository and was not revoked since; and that was made with what a
    worker ran its last job with, which is here and could have this one. None counts where the run spec does
    not say all that is done, nor, where images are scanned and a worker is here that could, one whose scan is
    not here; nor any where other scanners look as well.
    """
    if not sought.images or not _says_all(sought):
        return {}
    candidates = await _candidates(connection, settings, sought)
    if not candidates:
        return {}
    crew = await _crew(connection, sought.repository)
    trusted = {worker.name: worker.admitted_at for worker in crew}
    reader, run_spec = sought.actor.by_credential, sought.run_spec
    wants_scan = any(worker.scan for worker in crew)
    if wants_scan and await is_any(connection, sought.repository):
        # Which of them looked where it was scanned is in a document that is not read here.
        return {}
    could_scan = any(worker.asks and SCANS in parse_demand(worker.mechanisms) for worker in crew)
    scans = await hold_scans(connection, {part.scan for _, part in candidates}) if wants_scan else {}
    found: dict[RunnableImage, Kept] = {}
    loaded = 0
    for image, part in candidates:
        if image in found or not vouches(trusted, part) or loaded == _LOADED_MAX:
            continue
        if part.image_specs != sought.attached.get(image.digest):
            continue
        if wants_scan and could_scan and part.scan not in scans:
            continue
        if not decide(reader, "pull", part.name, part.visibility).allowed:
            continue
        loaded += 1
        rows = await _load(connection, part)
        report = _report(rows)
        demand = needs_with(run_spec, sought.attached.get(image.digest))
        if report is None or ran_with(report) not in _in_use(crew, image.platform, demand):
            continue
        judgement = judge(report, required=required_by(run_spec), asked=asked_by(run_spec))
        if judgement.verdict != "error":
            scan_id = scans.get(part.scan)
            missing = UNABLE if wants_scan else OFF
            scan = {"scan": missing.stored() if scan_id is None else part.scan}
            found[image] = _kept(part, rows, judgement, scan, scan_id)
    return found


async def take_reports(connection: AsyncConnection, judged: Sequence[tuple[Mapping[str, Any], Kept]]) -> None:
    """Make the parts of these rows, each as it is answered."""
    if not judged:
        return
    made = insert(parts).values(run_after=db_time(), created_at=db_time())
    await connection.execute(made, [{**row, **kept.answer} for row, kept in judged])
    of_all = [{**run, "part_id": row["id"]} for row, kept in judged for run in kept.runs]
    await connection.execute(insert(runs), of_all)
    carried = [
        CarriedScan(
            scan_id=kept.scan_id,
            repository_id=row["repository_id"],
            digest=row["digest"],
            worker=kept.answer["worker"],
            finished_at=kept.answer["finished_at"],
        )
        for row, kept in judged
        if kept.scan_id is not None
    ]
    await count_scans(connection, carried)


def _says_all(sought: Sought) -> bool:
    """Whether the digest of the run spec stands for all that is done: not where the image may suggest it, or
    where it names what is another thing in another repository."""
    if sought.run_spec is None:
        return not sought.image_spec_allowed
    return not (set(worker_needs(sought.run_spec)) & set(SPEC_NEWS)) - _IN_THE_SPEC


async def _candidates(
    connection: AsyncConnection, settings: Settings, sought: Sought
) -> Sequence[tuple[RunnableImage, Any]]:
    """The parts whose reports could answer about an image, the newest first."""
    namespace = namespace_of(sought.repository)
    if namespace is None:
        return ()
    newest = (
        select(func.max(trials.c.id))
        .join(trial_parts, trial_parts.c.trial_id == trials.c.id)
        .where(trial_parts.c.part_id == parts.c.id)
    )
    # A part may have been asked again, or found, since: the report is of the newest trial that waited for it.
    ran_for = newest.where(trials.c.created_at <= parts.c.finished_at)
    trial = func.coalesce(parts.c.reused_from, ran_for.scalar_subquery(), newest.scalar_subquery())
    query = (
        select(
            parts.c.id,
            parts.c.digest,
            parts.c.platform,
            parts.c.worker,
            parts.c.finished_at,
            parts.c.limits_digest,
            parts.c.image_specs,
            parts.c.scan,
            repositories.c.name,
            repositories.c.visibility,
            trial.label("trial"),
        )
        .join(repositories, repositories.c.id == parts.c.repository_id)
        .where(
            parts.c.digest.in_({image.digest for image in sought.images}),
            parts.c.platform.in_({image.platform for image in sought.images}),
            parts.c.spec_digest == spec_digest(sought.run_spec),
            parts.c.limits_digest == limits_digest(settings),
            parts.c.image_spec_allowed.is_(sought.image_spec_allowed),
            parts.c.state == "done",
            parts.c.verdict.in_(("pass", "warn", "fail")),
            parts.c.record.is_not(None),
            repositories.c.name.startswith(f"{namespace}/", autoescape=True),
            ~func.substr(repositories.c.name, len(namespace) + 2).contains("/"),
        )
        .order_by(parts.c.finished_at.desc(), parts.c.id)
        .limit(_CANDIDATES_MAX)
    )
    max_age = max_verdict_age(settings)
    if max_age is not None:
        query = query.where(parts.c.finished_at > db_time(-max_age))
    asked = {(image.digest, image.platform): image for image in sought.images}
    found = [(asked.get((row.digest, row.platform)), row) for row in await connection.execute(query)]
    return [(image, row) for image, row in found if image is not None and row.trial is not None]


async def _crew(connection: AsyncConnection, repository: str) -> Sequence[Any]:
    """The workers that may try what is in the repository, those too that are not here."""
    query = (
        select(
            accounts.c.name,
            *(workers.c[name] for name in ("namespaces", "labels", "slots", "platforms", "mechanisms")),
            workers.c.ran_with,
            workers.c.admitted_at,
            repositories.c.worker_label,
            or_(repositories.c.scan, has_policy(repositories.c.name, repositories.c.id)).label("scan"),
            and_(*ASKING).label("asks"),
        )
        .select_from(workers)
        # Each worker has an account; with an inner join SQLite walks all accounts to find the few workers.
        .outerjoin(accounts, accounts.c.id == workers.c.account_id)
        .join(repositories, repositories.c.name == repository)
        .where(accounts.c.kind == "worker", accounts.c.disabled_at.is_(None))
    )
    rows = (await connection.execute(query)).all()
    return [row for row in rows if Binding.of(row).opens(repository, row.worker_label)]


def _in_use(crew: Sequence[Any], platform: str, demand: str | None) -> Collection[str]:
    """With what those of the crew ran last that are here and could have such a job."""
    return {
        worker.ran_with
        for worker in crew
        if worker.asks
        and is_run(platform, json.loads(worker.platforms))
        and met(demand, parse_demand(worker.mechanisms))
    }


async def _load(connection: AsyncConnection, part: Any) -> Sequence[Any]:
    """The record of a part beside each of its runs without the log, of one moment; nothing where it was run
    again since it was found: that may be another worker's, and under other limits."""
    columns = [column for column in runs.c if column.name not in ("id", "part_id", "log")]
    query = (
        select(parts.c.digest, parts.c.record, parts.c.flaky, *columns)
        .join(runs, runs.c.part_id == parts.c.id)
        .where(
            parts.c.id == part.id,
            parts.c.finished_at == part.finished_at,
            parts.c.worker == part.worker,
            parts.c.record.is_not(None),
        )
        .order_by(runs.c.id)
    )
    return (await connection.execute(query)).all()


def _report(rows: Sequence[Any]) -> Report | None:
    """The report that is kept in these rows; ``None``: nothing is left of it, or another version beside this
    one keeps what this one does not know."""
    if not rows:
        return None
    same = ("name", "exit_code", "signal", "reason", "oom_killed", "seconds")
    told = [
        {
            **{name: getattr(row, name) for name in same},
            "command": json.loads(row.command),
            "log": "",
            "observations": json.loads(row.observations),
            "case": row.case_name,
            "attempt": row.case_attempt,
        }
        for row in rows
    ]
    of_part = {"protocol": PROTOCOL_VERSION, "lease": "", "digest": rows[0].digest, "runs": told}
    try:
        return Report.model_validate_json(json.dumps(json.loads(rows[0].record) | of_part))
    except ValidationError:
        return None


def _kept(
    part: Any, rows: Sequence[Any], judgement: Judgement, scan: Mapping[str, Any], scan_id: int | None
) -> Kept:
    answer = {
        "state": "done",
        "verdict": judgement.verdict,
        "reason": plain_text(judgement.reason)[:REASON_MAX],
        "flaky": judgement.flaky or None,
        "record": rows[0].record,
        "worker": part.worker,
        "limits_digest": part.limits_digest,
        "reused_from": part.trial,
        "finished_at": part.finished_at,
        **scan,
    }
    # What they wrote stays with those who may read it where it ran.
    instead = {"log": "", "log_truncated": True}
    names = [column.name for column in runs.c if column.name not in ("id", "part_id", *instead)]
    return Kept(answer, [{name: getattr(row, name) for name in names} | instead for row in rows], scan_id)
