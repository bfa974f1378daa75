"""Verdicts and signatures of an image in the repository that it is promoted into: what is known from where it
comes from counts as far as it answers what is asked here, and nothing is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import uuid_utils
from sqlalchemy import bindparam, delete, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.bindings import Binding
from registry.contract.isolation import SECRETS
from registry.contract.runspec import SCAN_ALONE_SPEC
from registry.db.accounts import accounts, workers
from registry.db.content import manifests, repositories
from registry.db.dialect import batches, portions
from registry.db.signatures import signatures
from registry.db.trials import parts, runs
from registry.trials.findingspolicies import counting_in
from registry.trials.images import RunnableImage
from registry.trials.imagespecs import attached_to
from registry.trials.opening import UNKNOWN, TrialPolicy
from registry.trials.platforms import is_run
from registry.trials.reusing import vouches
from registry.trials.scancarrying import CarriedScan, count_scans, hold_scans
from registry.trials.scanned import OFF
from registry.trials.signatures import find_met, keep_met, rules_of, test_of
from registry.trials.specs import spec_digest, worker_needs

if TYPE_CHECKING:
    from datetime import datetime

    from registry.settings import Settings

_OF_WORKER = ("namespaces", "labels", "slots", "admitted_at")
_SAYING = frozenset({"pass", "warn", "fail"})


@dataclass(frozen=True, slots=True)
class CarriedVerdict:
    """What is known of one image on one platform under the run spec of where it goes. ``verdict`` is ``None``
    where nothing is, and ``reason`` then says why. ``carried``: from where it comes from."""

    platform: str
    digest: str
    verdict: str | None
    reason: str
    worker: str | None
    carried: bool


async def carry_verdicts(
    connection: AsyncConnection,
    settings: Settings,
    *,
    source_id: int,
    policy: TrialPolicy,
    images: Sequence[RunnableImage],
) -> Sequence[CarriedVerdict]:
    """Let verdicts of another repository stand here, where nothing is known here: of the same image and
    platform under the same run spec, from workers that may try the images of this one. Where the spec names
    secrets none does: they are others there. Returns what is known then of what workers of this registry run.
    The caller holds the locks of both.

    Logs stay where they are: who may read them there is not who may read them here.
    """
    images = [image for image in images if is_run(image.platform, settings.trial_platforms)]
    held = await _parts(connection, policy, policy.repository_id, images, at=policy.policy_version)
    is_elsewhere, own_secrets = source_id != policy.repository_id, SECRETS in worker_needs(policy.run_spec)
    counts = is_elsewhere and not own_secrets
    found = await _parts(connection, policy, source_id, images) if counts else {}
    attached: Mapping[str, str] = {}
    if policy.image_spec_allowed:
        attached = await attached_to(connection, policy.repository_id, {image.digest for image in images})
    trusted = await _trusted(connection, policy, {str(row.worker) for row in found.values()})
    known: list[CarriedVerdict] = []
    taken: list[tuple[Any, Any]] = []
    for image in images:
        mine, theirs = held.get(image), found.get(image)
        if mine is not None and not (mine.state == "done" and mine.verdict in UNKNOWN):
            known.append(_known(image, mine, policy, carried=False))
            continue
        told = _known(image, mine if theirs is None else theirs, policy, carried=theirs is not None)
        if told.verdict is not None and not vouches(trusted, theirs):
            said = f"{told.worker}, who tried it, may not try what is in {policy.repository}, or was revoked"
            told = CarriedVerdict(image.platform, image.digest, None, said, told.worker, carried=False)
        is_same = theirs is None or theirs.image_specs == attached.get(image.digest)
        if told.verdict is not None and not is_same:
            said = f"other run specs are attached to it in {policy.repository}: push it there"
            told = CarriedVerdict(image.platform, image.digest, None, said, told.worker, carried=False)
        if is_elsewhere and own_secrets and mine is None:
            said = f"the run spec of {policy.repository} names secrets, so it is tried there: push it there"
            told = replace(told, reason=said)
        known.append(told)
        if told.verdict is not None:
            taken.append((theirs, mine))
    await _take(connection, policy, taken)
    return known


async def carry_signatures(
    connection: AsyncConnection, *, source_id: int, repository: tuple[int, str], created: Mapping[str, int]
) -> None:
    """Let the signatures among referrers that are new in a repository (its id and name) be known there, and
    meet its rules. They were verified when they were pushed. The caller holds the epochs."""
    into_id, name = repository
    old, new = manifests.alias("old"), manifests.alias("new")
    same = [signatures.c[each] for each in ("subject_digest", "payload", "signature", "issuer", "subject")]
    signed: list[int] = []
    for ids in portions(list(created.values())):
        taken = (
            select(new.c.id, literal(into_id).label("repository_id"), *same)
            .join(old, old.c.id == signatures.c.manifest_id)
            .join(new, new.c.digest == old.c.digest)
            .where(old.c.repository_id == source_id, new.c.id.in_(ids))
        )
        names = ["manifest_id", "repository_id", *(column.name for column in same)]
        made = insert(signatures).from_select(names, taken).returning(signatures.c.manifest_id)
        signed += (await connection.execute(made)).scalars()
    if not signed:
        return
    for rule in await rules_of(connection, into_id, name):
        for ids in portions(signed):
            here = signatures.c.manifest_id.in_(ids)
            met = await find_met(connection, test_of(rule), here, looked=set())
            await keep_met(connection, rule.id, met)


async def _parts(
    connection: AsyncConnection,
    policy: TrialPolicy,
    repository_id: int,
    images: Sequence[RunnableImage],
    *,
    at: int | None = None,
) -> Mapping[RunnableImage, Any]:
    """The latest answers in a repository to what ``policy`` asks, under one version of it or any."""
    found: dict[RunnableImage, Any] = {}
    for batch in batches(image.digest for image in images):
        query = select(parts).where(
            parts.c.repository_id == repository_id,
            parts.c.digest.in_(batch),
            parts.c.spec_digest == spec_digest(policy.run_spec),
            parts.c.image_spec_allowed.is_(policy.image_spec_allowed),
        )
        if at is not None:
            query = query.where(parts.c.policy_version == at)
        # Of several the one under the latest policy, also where that is not done yet.
        for row in await connection.execute(query.order_by(parts.c.policy_version)):
            found[RunnableImage(row.digest, row.platform)] = row
    return found


def _known(image: RunnableImage, row: Any, policy: TrialPolicy, *, carried: bool) -> CarriedVerdict:
    verdict, worker = None, None
    if row is None:
        reason = f"it was not tried under the run spec of {policy.repository}"
    elif row.state != "done":
        reason = "it is being tried"
    else:
        worker, reason = row.worker, row.reason
        if row.verdict in _SAYING:
            verdict = row.verdict
        else:
            reason = f"it could not be tried: {reason}"
    return CarriedVerdict(
        image.platform, image.digest, verdict, reason, worker, carried and verdict is not None
    )


async def _trusted(
    connection: AsyncConnection, policy: TrialPolicy, names: set[str]
) -> Mapping[str, datetime | None]:
    """Those of the workers that may try what is in the repository, as :func:`vouches` takes them."""
    demanded = select(repositories.c.worker_label).where(repositories.c.id == policy.repository_id)
    label = (await connection.execute(demanded)).scalar_one()
    trusted: dict[str, datetime | None] = {}
    for batch in batches(sorted(names)):
        query = (
            select(accounts.c.name, *(workers.c[name] for name in _OF_WORKER))
            .join(workers, workers.c.account_id == accounts.c.id)
            .where(accounts.c.name.in_(batch), accounts.c.kind == "worker", accounts.c.disabled_at.is_(None))
        )
        for row in await connection.execute(query):
            if Binding.of(row).opens(policy.repository, label):
                trusted[row.name] = row.admitted_at
    return trusted


async def _take(connection: AsyncConnection, policy: TrialPolicy, taken: Sequence[tuple[Any, Any]]) -> None:
    """Write down what was found: pairs of the row there, and the row here that it replaces, if there is
    one."""
    if not taken:
        return
    values_of = [column.name for column in parts.c if column.name != "id"]
    new, again = [], []
    wants = select(repositories.c.scan).where(repositories.c.id == policy.repository_id)
    wants_scan = (
        (await connection.execute(wants)).scalar_one()
        or policy.run_spec == SCAN_ALONE_SPEC
        or await counting_in(connection, policy.repository_id) is not None
    )
    scans = await hold_scans(connection, {theirs.scan for theirs, _ in taken}) if wants_scan else {}
    carried = []
    for theirs, mine in taken:
        values = {name: getattr(theirs, name) for name in values_of}
        values |= {"repository_id": policy.repository_id, "policy_version": policy.policy_version}
        values |= {"lease": None, "lease_account_id": None, "lease_expires_at": None}
        # The logs stay where they were written.
        values |= {"log_bytes": None}
        if theirs.scan in scans:
            about = (policy.repository_id, theirs.digest, theirs.worker, theirs.finished_at)
            carried.append(CarriedScan(scans[theirs.scan], *about))
        else:
            # No worker was asked to scan it for this repository.
            values |= {"scan": None if wants_scan else OFF.stored()}
        if mine is None:
            new.append({**values, "id": str(uuid_utils.uuid7())})
        else:
            again.append({f"new_{name}": value for name, value in values.items()} | {"this": mine.id})
    if new:
        await connection.execute(insert(parts), new)
    if again:
        changed: dict[str, Any] = {name: bindparam(f"new_{name}") for name in values_of}
        await connection.execute(update(parts).where(parts.c.id == bindparam("this")).values(changed), again)
        for batch in batches(row["this"] for row in again):
            await connection.execute(delete(runs).where(runs.c.part_id.in_(batch)))
    for batch in batches(theirs.id for theirs, _ in taken):
        await connection.execute(_runs(policy, batch))
    await count_scans(connection, carried)


def _runs(policy: TrialPolicy, part_ids: Sequence[str]) -> Any:
    old, new = parts.alias("old"), parts.alias("new")
    names = [column.name for column in runs.c if column.name not in ("id", "part_id", "log")]
    taken = (
        select(new.c.id, literal("").label("log"), *(runs.c[name] for name in names))
        .join(old, old.c.id == runs.c.part_id)
        .join(
            new,
            (new.c.digest == old.c.digest)
            & (new.c.platform == old.c.platform)
            & (new.c.spec_digest == old.c.spec_digest),
        )
        .where(
            old.c.id.in_(part_ids),
            new.c.repository_id == policy.repository_id,
            new.c.policy_version == policy.policy_version,
        )
        .order_by(runs.c.id)
    )
    return insert(runs).from_select(["part_id", "log", *names], taken, include_defaults=False)
