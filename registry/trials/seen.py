"""What was seen in a trial, in short: kept on its row when it is done, since its parts may be asked again.

Written in the transaction that makes the verdict. Thousands of trials may share a part, so parts are read
once for all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.contract.asked import Asked, asked_by
from registry.db.dialect import batches
from registry.db.trials import parts, runs, trial_parts, trials
from registry.oci.printable import printable

FAILED_MAX = 20
_RUNTIMES_MAX = 5
_EXPECTATION_MAX = 300


@dataclass(frozen=True, slots=True)
class Seen:
    """``runtimes``: name and version of each. ``seconds``: of all runs together. ``failed``: expectations
    that were not met, each with its platform and run; the first twenty. ``more_failed``: how many others."""

    runtimes: tuple[str, ...] = ()
    seconds: float = 0.0
    flaky_attempts: int = 0
    failed: tuple[str, ...] = ()
    more_failed: int = 0


def parse_seen(stored: str | None) -> Seen | None:
    """What a row says; ``None``: the trial is not done, or was before this was kept."""
    if stored is None:
        return None
    kept: dict[str, Any] = json.loads(stored)
    return Seen(**{**kept, "runtimes": tuple(kept["runtimes"]), "failed": tuple(kept["failed"])})


async def keep_seen(connection: AsyncConnection, trial_ids: Sequence[str]) -> None:
    """Keep on these trials, which are done, what was seen. There are at most as many as a batch has."""
    if not trial_ids:
        return
    links = select(trial_parts.c.trial_id, trial_parts.c.part_id).where(trial_parts.c.trial_id.in_(trial_ids))
    of_trial: dict[str, list[str]] = {trial_id: [] for trial_id in trial_ids}
    for trial_id, part_id in await connection.execute(links):
        of_trial[trial_id].append(part_id)
    of_part: dict[str, Seen] = {}
    order: dict[str, tuple[str, str]] = {}
    for batch in batches(part_id for linked in of_trial.values() for part_id in linked):
        found = (await connection.execute(select(parts).where(parts.c.id.in_(batch)))).all()
        observed: dict[str, list[Mapping[str, Any]]] = {part.id: [] for part in found}
        ran = (
            select(runs.c.part_id, runs.c.name, runs.c.case_name, runs.c.seconds, runs.c.observations)
            .where(runs.c.part_id.in_(batch))
            .order_by(runs.c.id)
        )
        for run in await connection.execute(ran):
            observed[run.part_id].append({**run._asdict(), "observations": json.loads(run.observations)})
        for part in found:
            of_part[part.id] = seen_of_part(part._asdict(), observed[part.id])
            order[part.id] = (part.platform, part.digest)
    rows = []
    for trial_id, linked in of_trial.items():
        seen = together([of_part[part_id] for part_id in sorted(linked, key=lambda part_id: order[part_id])])
        rows.append({"this": trial_id, "now_seen": json.dumps(_stored(seen))})
    await connection.execute(
        update(trials).where(trials.c.id == bindparam("this")).values(seen=bindparam("now_seen")), rows
    )


def seen_of_part(part: Mapping[str, Any], ran: Sequence[Mapping[str, Any]]) -> Seen:
    """What was seen of one part; ``part`` is its row, ``ran`` the rows of its runs in their order."""
    runtime = "" if part["record"] is None else printable(json.loads(part["record"]).get("runtime") or "")
    asked = {one.case: one for one in asked_by(part["run_spec"])}
    cases: dict[str, list[Mapping[str, Any]]] = {}
    for run in ran:
        cases.setdefault(run["case_name"] or "", []).append(run)
    failed: dict[str, None] = {}
    for case, attempts in cases.items():
        for run in _counted(asked.get(case, Asked(case, any_is_enough=False)), attempts):
            for one in run["observations"]:
                if one["met"] is not True:
                    said = f"{part['platform']} {run['name']}: {one['expectation']}"
                    failed[printable(said)[:_EXPECTATION_MAX]] = None
    return Seen(
        runtimes=(runtime,) if runtime else (),
        seconds=round(sum(run["seconds"] for run in ran), 3),
        flaky_attempts=part["flaky"] or 0,
        failed=tuple(failed),
    )


def _counted(asked: Asked, attempts: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The attempts whose expectations count: none where one was enough and passed."""
    passed = any(
        attempt["observations"] and all(one["met"] for one in attempt["observations"]) for attempt in attempts
    )
    return () if asked.any_is_enough and passed else attempts


def together(parts_seen: Sequence[Seen]) -> Seen:
    """What was seen in all parts of a trial."""
    failed = list(dict.fromkeys(one for seen in parts_seen for one in seen.failed))
    return Seen(
        runtimes=tuple(dict.fromkeys(one for seen in parts_seen for one in seen.runtimes))[:_RUNTIMES_MAX],
        seconds=round(sum(seen.seconds for seen in parts_seen), 3),
        flaky_attempts=sum(seen.flaky_attempts for seen in parts_seen),
        failed=tuple(failed[:FAILED_MAX]),
        more_failed=max(0, len(failed) - FAILED_MAX),
    )


def _stored(seen: Seen) -> dict[str, object]:
    return {name: getattr(seen, name) for name in Seen.__dataclass_fields__}
