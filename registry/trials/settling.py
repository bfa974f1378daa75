"""Bringing states in line with parts: those of trials, and those of the images that trials are about.

The caller holds the repository's lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import cast

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.actor import REGISTRY
from registry.contract.judge import Judgement, Verdict, worst
from registry.db import outbox
from registry.db.content import manifests, repositories
from registry.db.dialect import batches
from registry.db.trials import parts, trial_parts, trials
from registry.db.types import UtcTime, db_time
from registry.trials.attesting import attest_part, attest_states, attest_trials
from registry.trials.gate import ADMITTED
from registry.trials.imagefindings import with_findings
from registry.trials.seen import keep_seen
from registry.trials.specs import SCAN_ALONE_DIGEST, spec_digest
from registry.trials.states import PASSED, REASON_MAX
from registry.trials.turning import turn


async def settle_image(connection: AsyncConnection, part_id: str) -> None:
    """Bring the state of a part's own image, and what is attested of it, in line with the part."""
    part = (await connection.execute(select(parts).where(parts.c.id == part_id))).one()
    await attest_part(connection, part._asdict())
    policy = await _policy(connection, part.repository_id)
    if not policy.decides(part.spec_digest, part.policy_version):
        return
    state = part.verdict if part.state == "done" else "pending"
    reason = part.reason if part.state == "done" else ""
    await set_states(
        connection,
        part.repository_id,
        policy.repository,
        [(part.digest, state, reason)],
        judged_at={part.digest: part.finished_at},
    )


async def settle_trials(connection: AsyncConnection, trial_ids: Sequence[str]) -> None:
    """Bring trials of one repository, and the states of their images, in line with their parts.

    Thousands of indexes may list one image, so its verdict takes as many statements as for one of them. An
    index is as good as the worst platform that is run, and as old as the oldest; platforms that no worker
    runs count only where there is no other.
    """
    for batch in batches(trial_ids):
        await _settle_batch(connection, batch)


async def settle_again(connection: AsyncConnection, repository_id: int, digest: str) -> None:
    """Bring all in line that rests on an image whose findings were judged just now: its own state, trials
    that waited for that, and the states of the indexes that list it. What was told of trials stays told."""
    mine = (parts.c.repository_id == repository_id, parts.c.digest == digest, parts.c.state == "done")
    found = (await connection.execute(select(parts.c.id).where(*mine).order_by(parts.c.id))).scalars().all()
    for part_id in found:
        await settle_image(connection, part_id)
    if not found:
        return
    linked = (
        select(trials.c.id, trials.c.state)
        .join(trial_parts, trial_parts.c.trial_id == trials.c.id)
        .where(trial_parts.c.part_id.in_(found))
        .distinct()
        .order_by(trials.c.id)
    )
    rows = (await connection.execute(linked)).all()
    await settle_trials(connection, [row.id for row in rows if row.state != "done"])
    for batch in batches(row.id for row in rows if row.state == "done"):
        await _settle_batch(connection, batch, over=True)


async def _settle_batch(connection: AsyncConnection, trial_ids: Sequence[str], *, over: bool = False) -> None:
    """``over``: the trials are done, and only the states of what they were about are looked at."""
    of_these = select(trials).where(trials.c.id.in_(trial_ids)).order_by(trials.c.id).with_for_update()
    found = (await connection.execute(of_these)).all()
    repository_id = found[0].repository_id
    linked: dict[str, list[_Linked]] = {trial.id: [] for trial in found}
    query = (
        select(trial_parts.c.trial_id, *(parts.c[name] for name in _Linked.__dataclass_fields__))
        .join(trial_parts, trial_parts.c.part_id == parts.c.id)
        .where(trial_parts.c.trial_id.in_(trial_ids))
        .order_by(parts.c.platform, parts.c.digest)
    )
    for trial_id, *columns in await connection.execute(query):
        linked[trial_id].append(_Linked(*columns))
    policy = await _policy(connection, repository_id)
    await _add_findings(connection, repository_id, policy.repository, linked)
    open_rows, done_rows, states, told = [], [], [], []
    judged_at: dict[str, datetime | None] = {}
    for trial in found:
        outcome = _outcome(linked[trial.id])
        if over:
            pass
        elif outcome.judgement is None:
            open_rows.append({"this": trial.id, "trial_state": outcome.state})
        else:
            verdict, reason = outcome.judgement.verdict, outcome.judgement.reason
            done_rows.append({"this": trial.id, "trial_verdict": verdict, "trial_reason": reason})
            told.append({"trial": trial.id, "digest": trial.digest, "verdict": verdict, "reason": reason})
        if policy.decides(trial.spec_digest, trial.policy_version):
            reason = outcome.judgement.reason if outcome.judgement else ""
            states.append((trial.digest, outcome.image_state, reason))
            judged_at[trial.digest] = outcome.judged_at
    this = update(trials).where(trials.c.id == bindparam("this"))
    if open_rows:
        await connection.execute(this.values(state=bindparam("trial_state")), open_rows)
    if done_rows:
        ended = this.values(
            state="done",
            verdict=bindparam("trial_verdict"),
            reason=bindparam("trial_reason"),
            finished_at=db_time(),
        )
        await connection.execute(ended, done_rows)
    await keep_seen(connection, [row["this"] for row in done_rows])
    await attest_trials(connection, [row["this"] for row in done_rows])
    await outbox.record_all(connection, "trial.finished", policy.repository, REGISTRY, told)
    await set_states(connection, repository_id, policy.repository, states, judged_at=judged_at)


async def _add_findings(
    connection: AsyncConnection, repository_id: int, repository: str, linked: Mapping[str, list[_Linked]]
) -> None:
    """Let parts that are done be what a findings policy makes of their images; where that is not known yet,
    they are as if they went on."""
    done = [part for each in linked.values() for part in each if part.state == "done"]
    wanted = list({part.key: (part.digest, part.verdict or "", part.reason) for part in done}.values())
    found = await with_findings(connection, repository_id, repository, wanted)
    changed = {
        (digest, verdict): (state, reason)
        for (digest, verdict, _), (_, state, reason) in zip(wanted, found, strict=True)
        if state != verdict
    }
    if not changed:
        return
    for each in linked.values():
        for number, part in enumerate(each):
            if part.state == "done" and part.key in changed:
                state, reason = changed[part.key]
                if state == "pending":
                    each[number] = replace(part, state="leased")
                else:
                    each[number] = replace(part, verdict=state, reason=reason)


@dataclass(frozen=True, slots=True)
class _Linked:
    digest: str
    platform: str
    state: str
    verdict: str | None
    reason: str
    finished_at: datetime | None

    @property
    def key(self) -> tuple[str, str]:
        """What findings change it by."""
        return self.digest, self.verdict or ""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """Where a trial stands. ``judgement`` is ``None`` as long as a part of it is not done; ``judged_at`` is
    when the oldest of the reports was made that it rests on."""

    state: str
    image_state: str
    judgement: Judgement | None
    judged_at: datetime | None = None


def _outcome(linked: Sequence[_Linked]) -> _Outcome:
    if any(part.state != "done" for part in linked):
        state = "running" if any(part.state == "leased" for part in linked) else "queued"
        return _Outcome(state, "pending", None)
    run = [part for part in linked if part.verdict != "unsupported"]
    if not run:
        return _Outcome("done", "unsupported", Judgement("error", linked[0].reason))
    judgement = worst([_judgement(part, several=len(linked) > 1) for part in run])
    judged_at = min((part.finished_at for part in run if part.finished_at is not None), default=None)
    return _Outcome("done", judgement.verdict, judgement, judged_at)


def _judgement(part: _Linked, *, several: bool) -> Judgement:
    said = f"{part.platform}: {part.reason}" if several else part.reason
    return Judgement(cast(Verdict, part.verdict), said[:REASON_MAX])


@dataclass(frozen=True, slots=True)
class _Policy:
    repository: str
    run_spec: str | None
    version: int

    def decides(self, digest: str, version: int) -> bool:
        """Whether a verdict under this spec counts for the gate: a repository's own yields to no other. That
        nothing is run counts only where the repository itself says so."""
        any_may = self.run_spec is None and digest != SCAN_ALONE_DIGEST
        own = any_may or spec_digest(self.run_spec) == digest
        return own and self.version == version


async def _policy(connection: AsyncConnection, repository_id: int) -> _Policy:
    query = select(repositories.c.name, repositories.c.run_spec, repositories.c.policy_version)
    return _Policy(*(await connection.execute(query.where(repositories.c.id == repository_id))).one())


async def set_states(
    connection: AsyncConnection,
    repository_id: int,
    repository: str,
    wanted: Sequence[tuple[str, str, str]],
    *,
    judged_at: Mapping[str, datetime | None] | None = None,
) -> None:
    """Let images of a repository stand in these states, and tell of it: digest, state and reason of each.
    ``judged_at`` is since when, by digest; else it is now.

    An admitted one is not made pending: it stays so until it is judged again; nor does one that is admitted
    for a time lose that because nobody runs it. One that is gone has no state.
    What passed is what the repository's findings policy makes of it.
    """
    wanted = await with_findings(connection, repository_id, repository, wanted)
    now: dict[str, str] = {}
    for batch in batches(digest for digest, _, _ in wanted):
        rows = await connection.execute(
            select(manifests.c.digest, manifests.c.state).where(
                manifests.c.repository_id == repository_id, manifests.c.digest.in_(batch)
            )
        )
        now |= {row.digest: row.state for row in rows}
    changed: dict[str, tuple[str, str]] = {}
    told = []
    bad: set[str] = set()
    good: set[str] = set()
    for digest, state, reason in wanted:
        if digest not in now or (state == "pending" and now[digest] in (*ADMITTED, "pending")):
            continue
        if state == "unsupported" and now[digest] == "grandfathered":
            continue
        if state not in ("pending", now[digest]):
            told.append({"digest": digest, "from": now[digest], "to": state, "reason": reason})
            if state in PASSED:
                good.add(digest)
            elif now[digest] in ("pass", "warn") and state in ("fail", "error"):
                bad.add(digest)
        now[digest] = state
        changed[digest] = (state, reason)
    if changed:
        since = judged_at or {}
        await connection.execute(
            update(manifests)
            .where(manifests.c.repository_id == repository_id, manifests.c.digest == bindparam("this"))
            .values(
                state=bindparam("new_state"),
                state_reason=bindparam("new_reason"),
                state_at=func.coalesce(bindparam("since", type_=UtcTime()), db_time()),
            ),
            [
                {"this": digest, "new_state": state, "new_reason": reason, "since": since.get(digest)}
                for digest, (state, reason) in changed.items()
            ],
        )
        await attest_states(connection, repository_id, list(changed))
    await outbox.record_all(connection, "verdict.changed", repository, REGISTRY, told)
    await turn(connection, repository_id, repository, bad=bad, good=good)
