"""Verdicts to be attested: rows in the transaction that makes a verdict, or changes what the gate makes of
an image.

A row holds what was found, as it was found; :mod:`registry.trials.signing` signs it afterwards and stores it
as a referrer. The row before it goes at once, and the referrer of that with it: what stands signed is what
the database says, and between two verdicts nothing does. The caller holds the repository's lock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.content.manifests import remove_rows
from registry.contract.runspec import SCAN_ALONE_SPEC
from registry.db.content import attestations, kept_documents, manifests, repositories
from registry.db.dialect import batches, insert_ignoring_conflict, portions
from registry.db.engine import move_epoch
from registry.db.trials import parts, runs, trial_parts, trials
from registry.db.types import db_time
from registry.trials.findingspolicies import counting
from registry.trials.relief import relief_in
from registry.trials.specs import SCAN_ALONE_DIGEST, spec_digest
from registry.trials.statements import (
    JUDGED,
    Kind,
    ScanKind,
    document,
    part_found,
    state_found,
    trial_found,
)


@dataclass(frozen=True, slots=True)
class _Found:
    """What is to be signed about one image: ``found`` is JSON, ``None`` to say nothing any more."""

    digest: str
    kind: Kind
    spec_digest: str
    found: str | None

    @property
    def key(self) -> tuple[str, str, str]:
        """What one row is kept for."""
        return self.digest, self.kind, self.spec_digest


async def attest_part(connection: AsyncConnection, part: Mapping[str, Any]) -> None:
    """Have the verdict of a part, of which this is the row, attested on its image, if there is one and the
    repository holds the image. Of what was not run no result is claimed."""
    if part["state"] != "done" or part["verdict"] not in JUDGED or part["spec_digest"] == SCAN_ALONE_DIGEST:
        return
    observed = await connection.execute(
        select(runs.c.name, runs.c.case_attempt, runs.c.observations)
        .where(runs.c.part_id == part["id"])
        .order_by(runs.c.id)
    )
    content, policy = _policy_of(part, [part])
    kept = {policy: content}
    if part["run_spec"] is not None:
        kept[part["spec_digest"]] = part["run_spec"]
    await _keep(connection, part["repository_id"], kept)
    named = [(_named(row.name, row.case_attempt), json.loads(row.observations)) for row in observed]
    found = part_found(part, named, policy=policy)
    await _put(connection, part["repository_id"], [_result(part, found)])


def _named(run: str, attempt: int | None) -> str:
    """One attempt may have passed what another failed."""
    return run if attempt is None else f"{run}, attempt {attempt}"


async def attest_trials(connection: AsyncConnection, trial_ids: Sequence[str]) -> None:
    """Have the verdicts of trials of one repository that are done attested on their indexes; that of a single
    image is the verdict of its part."""
    for batch in batches(trial_ids):
        of_runs = select(trials).where(trials.c.id.in_(batch), trials.c.spec_digest != SCAN_ALONE_DIGEST)
        found = await connection.execute(of_runs)
        done = [row._asdict() for row in found]
        listed: dict[str, list[Mapping[str, Any]]] = {trial["id"]: [] for trial in done}
        query = (
            select(
                trial_parts.c.trial_id,
                parts.c.digest,
                parts.c.platform,
                parts.c.verdict,
                parts.c.finished_at,
                parts.c.image_spec_allowed,
                parts.c.image_specs,
            )
            .join(trial_parts, trial_parts.c.part_id == parts.c.id)
            .where(trial_parts.c.trial_id.in_(list(listed)))
            .order_by(parts.c.platform, parts.c.digest)
        )
        for row in await connection.execute(query):
            listed[row.trial_id].append(row._asdict())
        wanted, kept = [], {}
        for trial in done:
            of_it = listed[trial["id"]]
            run = any(part["verdict"] in JUDGED for part in of_it)
            if not run or any(part["digest"] == trial["digest"] for part in of_it):
                continue
            content, policy = _policy_of(trial, of_it)
            kept[policy] = content
            wanted.append(_result(trial, trial_found(trial, of_it, policy=policy)))
        if wanted:
            await _keep(connection, done[0]["repository_id"], kept)
            await _put(connection, done[0]["repository_id"], wanted)


async def attest_scan(
    connection: AsyncConnection, repository_id: int, digest: str, *, scan: str, kinds: Sequence[ScanKind]
) -> None:
    """Have what was found in a scan, whose document has the digest ``scan``, attested on its image. Of the
    same scan that is said already nothing is said again."""
    found = _json({"scan": scan})
    await _put(connection, repository_id, [_Found(digest, kind, "", found) for kind in kinds])


async def attest_matches_again(connection: AsyncConnection, manifest_ids: Sequence[int]) -> None:
    """Have what advisories say of the packages of images, where that is attested, attested as it is now. What
    was signed stands until then: no lock of a repository is needed here."""
    query = (
        select(attestations.c.id)
        .join(
            manifests,
            and_(
                manifests.c.repository_id == attestations.c.repository_id,
                manifests.c.digest == attestations.c.digest,
            ),
        )
        .where(manifests.c.id.in_(manifest_ids), attestations.c.kind == "matches")
        # All who take several wait for each other in turn.
        .order_by(attestations.c.id)
        .with_for_update(of=attestations)
    )
    ids = (await connection.execute(query)).scalars().all()
    if ids:
        again = {"signed_at": None, "left_out": None, "made_at": db_time(), "run_after": db_time()}
        await connection.execute(update(attestations).where(attestations.c.id.in_(ids)).values(again))


async def sign_again(connection: AsyncConnection, which: ColumnElement[bool]) -> None:
    """Take away what is signed of these attestations, to sign it anew; the caller moves an epoch."""
    ids = select(attestations.c.id).where(which)
    await connection.execute(ids.order_by(attestations.c.id).with_for_update())
    await remove_rows(connection, manifests.c.attestation_id.in_(ids))
    await connection.execute(
        update(attestations).where(which).values(signed_at=None, kid=None, left_out=None, run_after=db_time())
    )


async def attest_states(connection: AsyncConnection, repository_id: int, digests: Sequence[str]) -> None:
    """Have summarised what the gate makes of these images now; nothing is said of those without a verdict.
    While an image is tried again, the last summary stands."""
    held = await connection.execute(select(repositories).where(repositories.c.id == repository_id))
    repository = held.one()
    rows: list[Mapping[str, Any]] = []
    for batch in batches(digests):
        query = select(
            manifests.c.digest,
            manifests.c.state,
            manifests.c.state_reason,
            manifests.c.state_at,
            manifests.c.blocked_reason,
        ).where(manifests.c.repository_id == repository_id, manifests.c.digest.in_(batch))
        rows += [row._asdict() for row in await connection.execute(query)]
    if not rows:
        return
    findings = await counting(connection, repository_id, repository.name)
    policy, digest = document(
        {
            "gate": repository.gate,
            "image_spec_allowed": repository.image_spec_allowed,
            "policy_version": repository.policy_version,
            "run_spec": spec_digest(repository.run_spec),
            **({} if findings is None else {"findings": findings.digest}),
        }
    )
    wanted = []
    is_scan_alone = repository.run_spec == SCAN_ALONE_SPEC
    # Only a verdict can be waived here: what was just pushed has none.
    is_judged = any(row["state"] in JUDGED for row in rows)
    relief = await relief_in(connection, repository_id, repository.name) if is_judged else None
    for row in rows:
        waiver = None if relief is None else relief.waiver_for(row["digest"], row["state"])
        found = state_found(row, policy=digest, waiver=waiver, is_run=not is_scan_alone)
        if found is None and row["state"] == "pending":
            continue
        wanted.append(_Found(row["digest"], "summary", "", None if found is None else _json(found)))
    if any(one.found is not None for one in wanted):
        kept = {} if findings is None else {findings.digest: findings.document}
        await _keep(connection, repository_id, {digest: policy, **kept})
    await _put(connection, repository_id, wanted)


def _result(row: Mapping[str, Any], found: Mapping[str, object]) -> _Found:
    return _Found(row["digest"], "result", row["spec_digest"], _json(found))


def _json(found: Mapping[str, object]) -> str:
    return json.dumps(found, separators=(",", ":"), sort_keys=True)


def _policy_of(row: Mapping[str, Any], of_it: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """What a verdict was made under, of which ``row`` is the part or trial and ``of_it`` are its parts, and
    its digest."""
    content = {
        "image_spec_allowed": of_it[0]["image_spec_allowed"],
        "policy_version": row["policy_version"],
        "run_spec": row["spec_digest"],
    }
    attached = {digest for part in of_it for digest in json.loads(part["image_specs"] or "[]")}
    if attached:
        content["image_specs"] = sorted(attached)
    return document(content)


async def _keep(connection: AsyncConnection, repository_id: int, documents: Mapping[str, str]) -> None:
    """Keep these documents, by digest."""
    rows = [
        {"repository_id": repository_id, "digest": digest, "content": content}
        for digest, content in sorted(documents.items())
    ]
    await connection.execute(insert_ignoring_conflict(connection, kept_documents, rows))


async def _put(connection: AsyncConnection, repository_id: int, wanted: Sequence[_Found]) -> None:
    held: dict[tuple[str, str, str], tuple[int, str]] = {}
    there: set[str] = set()
    for batch in batches(one.digest for one in wanted):
        rows = await connection.execute(
            select(attestations).where(
                attestations.c.repository_id == repository_id, attestations.c.digest.in_(batch)
            )
        )
        held |= {(row.digest, row.kind, row.spec_digest): (row.id, row.found) for row in rows}
        # A verdict may be about what was deleted meanwhile.
        images = select(manifests.c.digest).where(
            manifests.c.repository_id == repository_id, manifests.c.digest.in_(batch)
        )
        there |= set((await connection.execute(images)).scalars())
    # Of two about the same, the later counts.
    latest = {one.key: one for one in wanted if one.digest in there}
    old = [held[key][0] for key, one in latest.items() if key in held and held[key][1] != one.found]
    new = [
        {
            "repository_id": repository_id,
            "digest": one.digest,
            "kind": one.kind,
            "spec_digest": one.spec_digest,
            "found": one.found,
        }
        for key, one in latest.items()
        if one.found is not None and held.get(key, (0, None))[1] != one.found
    ]
    for gone in portions(old):
        await remove_rows(connection, manifests.c.attestation_id.in_(gone))
        await connection.execute(delete(attestations).where(attestations.c.id.in_(gone)))
    if new:
        await connection.execute(insert(attestations).values(made_at=db_time(), run_after=db_time()), new)
    if old:
        await move_epoch(connection, "content")
