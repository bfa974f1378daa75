"""How a trial begins: parts found or made for each platform, in the transaction of its cause."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import uuid_utils
from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.actor import Actor
from registry.content.tagpatterns import means_any, patterns_of
from registry.contract.runspec import SCAN_ALONE_SPEC
from registry.db.content import manifests, repositories, tags
from registry.db.trials import parts, runs, trial_parts, trials
from registry.db.types import db_time
from registry.oci.platform import UNKNOWN_PLATFORM
from registry.settings import Settings
from registry.trials.caps import charged
from registry.trials.images import RunnableImage
from registry.trials.imagespecs import attached_to, needs_with, set_attached
from registry.trials.platforms import is_run, is_scanned
from registry.trials.reusing import Kept, Sought, kept_reports, take_reports
from registry.trials.scheduling import PUSHED, sizes_of, turns
from registry.trials.services import sizes_beside
from registry.trials.settling import settle_image, settle_trials
from registry.trials.specs import spec_digest
from registry.trials.states import REASON_MAX

UNKNOWN = frozenset({"error", "unsupported"})
"""Verdicts of a part that say nothing about the image, so that the same question is worth asking again."""


@dataclass(frozen=True, slots=True)
class TrialPolicy:
    """What a repository says about its trials."""

    repository_id: int
    repository: str
    trial_on_push: bool
    trial_tags: Sequence[str] | None
    image_spec_allowed: bool
    run_spec: str | None
    policy_version: int

    def why_not_tried(self, tags: Sequence[str]) -> str:
        """Why a push under these tags makes no trial; empty where it does. What is pushed by digest alone
        stands for itself."""
        if not self.trial_on_push:
            return "the repository does not try what is pushed"
        if not tags or means_any(self.trial_tags, tags):
            return ""
        return f"it was pushed under no tag that is tried: {', '.join(self.trial_tags or ())}"[:REASON_MAX]


@dataclass(frozen=True, slots=True)
class Opening:
    """One trial to open. ``run_spec`` is canonical JSON; ``again`` asks even where a verdict stands;
    ``urgency`` is one of :mod:`registry.trials.scheduling`; ``by_tag``: dropped when no tag names it;
    ``trial_id``: of one that is there already and has waited for its image."""

    digest: str
    images: Sequence[RunnableImage]
    run_spec: str | None
    cause: Literal["push", "request"]
    created_by: Actor
    again: bool
    urgency: int = PUSHED
    by_tag: bool = False
    trial_id: str | None = None

    @property
    def is_scan_alone(self) -> bool:
        """Whether the images are only scanned, and nothing of them run."""
        return self.run_spec == SCAN_ALONE_SPEC

    def tries(self, platform: str, settings: Settings) -> bool:
        """Whether a worker may take an image for this platform."""
        return is_scanned(platform) if self.is_scan_alone else is_run(platform, settings.trial_platforms)


async def trial_policy(connection: AsyncConnection, repository_id: int) -> TrialPolicy:
    """Read what the repository says."""
    query = select(
        repositories.c.id.label("repository_id"),
        repositories.c.name.label("repository"),
        repositories.c.trial_on_push,
        repositories.c.trial_tags,
        repositories.c.image_spec_allowed,
        repositories.c.run_spec,
        repositories.c.policy_version,
    ).where(repositories.c.id == repository_id)
    row = (await connection.execute(query)).one()._asdict()
    return TrialPolicy(**{**row, "trial_tags": patterns_of(row["trial_tags"])})


async def tags_of(connection: AsyncConnection, policy: TrialPolicy, manifest_id: int) -> Sequence[str]:
    """The tags that name a manifest, for :meth:`TrialPolicy.why_not_tried`; none where it tries all."""
    if policy.trial_tags is None:
        return ()
    query = select(tags.c.name).where(
        tags.c.repository_id == policy.repository_id, tags.c.manifest_id == manifest_id
    )
    return (await connection.execute(query)).scalars().all()


async def open_trial(
    connection: AsyncConnection, settings: Settings, policy: TrialPolicy, opening: Opening
) -> str:
    """Make a trial with a part for each image and bring the states in line; returns its id.

    The caller holds the repository's lock: rows are locked in one order, repository, parts, trials.
    """
    found = await _find_or_make_parts(connection, settings, policy, opening)
    part_ids = [part.id for part in found]
    trial_id = opening.trial_id or str(uuid_utils.uuid7())
    question = {
        "digest": opening.digest,
        "spec_digest": spec_digest(opening.run_spec),
        "policy_version": policy.policy_version,
        "state": "queued",
    }
    if opening.trial_id is not None:
        await connection.execute(update(trials).where(trials.c.id == trial_id).values(question))
    else:
        await connection.execute(
            insert(trials).values(
                id=trial_id,
                repository_id=policy.repository_id,
                cause=opening.cause,
                created_by=opening.created_by.shown,
                by_tag=opening.by_tag or None,
                workload=opening.created_by.workload_text,
                created_at=db_time(),
                **question,
            )
        )
    await connection.execute(
        insert(trial_parts), [{"trial_id": trial_id, "part_id": part_id} for part_id in part_ids]
    )
    for part in found:
        if part.differs:
            await settle_image(connection, part.id)
    await settle_trials(connection, [trial_id])
    return trial_id


async def _requeue(connection: AsyncConnection, part_ids: Sequence[str], *, asked_by: str | None) -> None:
    """Ask finished parts again, whose rows are locked."""
    await connection.execute(delete(runs).where(runs.c.part_id.in_(part_ids)))
    await connection.execute(
        update(parts)
        .where(parts.c.id.in_(part_ids))
        .values(
            state="queued",
            attempts=0,
            run_after=db_time(),
            verdict=None,
            reason="",
            asked_by=asked_by,
            worker=None,
            limits_digest=None,
            record=None,
            reused_from=None,
            flaky=None,
            log_bytes=None,
            finished_at=None,
        )
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """``differs``: the state of its image may not be what the part says."""

    id: str
    digest: str
    differs: bool


async def _find_or_make_parts(
    connection: AsyncConnection, settings: Settings, policy: TrialPolicy, opening: Opening
) -> Sequence[_Part]:
    key: dict[str, Any] = {
        "repository_id": policy.repository_id,
        "spec_digest": spec_digest(opening.run_spec),
        "policy_version": policy.policy_version,
    }
    query = (
        select(
            parts.c.id,
            parts.c.digest,
            parts.c.platform,
            parts.c.state,
            parts.c.urgency,
            parts.c.asked_by,
            parts.c.verdict,
            parts.c.run_spec,
            parts.c.image_specs,
            manifests.c.state.label("image_state"),
        )
        .outerjoin(
            manifests,
            (manifests.c.repository_id == parts.c.repository_id) & (manifests.c.digest == parts.c.digest),
        )
        .where(
            *(parts.c[name] == value for name, value in key.items()),
            parts.c.digest.in_([image.digest for image in opening.images]),
        )
        .order_by(parts.c.id)
        .with_for_update(of=parts)
    )
    held = {RunnableImage(row.digest, row.platform): row for row in await connection.execute(query)}
    found: list[_Part] = []
    again: list[Any] = []
    sooner: list[Any] = []
    by_others: list[str] = []
    asked_by = charged(opening.created_by)
    attached = await _attached(connection, policy, opening)
    new: list[dict[str, Any]] = []
    kept = await _kept_of(connection, settings, policy, opening, attached, but_not=held)
    judged: list[tuple[dict[str, Any], Kept]] = []
    for image in sorted(opening.images):
        supported = opening.tries(image.platform, settings)
        part = held.get(image)
        if part is None:
            row = key | _new_part(policy, opening, image, attached.get(image.digest), supported=supported)
            if image in kept:
                judged.append((row, kept[image]))
            else:
                new.append(row)
            found.append(_Part(row["id"], image.digest, differs=True))
            continue
        asked = part.state == "done" and supported and (opening.again or part.verdict in UNKNOWN)
        if asked:
            again.append(part)
        elif part.state == "queued" and opening.urgency < part.urgency:
            sooner.append(part)
        if part.state == "queued" and asked_by not in (None, part.asked_by):
            by_others.append(part.id)
        said = part.verdict if part.state == "done" else "pending"
        found.append(_Part(part.id, image.digest, differs=asked or part.image_state != said))
    queued = [row for row in new if row["state"] == "queued"]
    asked_before = [(part.id, part.digest, part.platform) for part in (*again, *sooner)]
    made = [(row["id"], row["digest"], row["platform"]) for row in queued]
    places = await _places(connection, policy, opening, [*made, *asked_before])
    for row in new:
        place = places.get(row["id"], {})
        row |= {name: place.get(name, 0) for name in ("urgency", "turn", "size_bytes")}
    if new:
        await _make_parts(connection, new)
    await take_reports(connection, judged)
    if asked_before:
        moved = [{"this": part_id, **places[part_id]} for part_id, *_ in asked_before]
        at_its_turn = update(parts).where(parts.c.id == bindparam("this"))
        await connection.execute(
            at_its_turn.values({name: bindparam(name) for name in ("urgency", "turn", "size_bytes")}), moved
        )
    await set_attached(
        connection, [*again, *(part for part in held.values() if part.state == "queued")], attached
    )
    if again:
        await _requeue(connection, [part.id for part in again], asked_by=asked_by)
    if by_others:
        # Whoever asks for it last would else wait for a cap of somebody else.
        asked_anew = update(parts).where(parts.c.id.in_(by_others))
        await connection.execute(asked_anew.values(asked_by=asked_by))
    return found


async def _places(
    connection: AsyncConnection,
    policy: TrialPolicy,
    opening: Opening,
    queued: Sequence[tuple[str, str, str]],
) -> Mapping[str, Mapping[str, int]]:
    """Where in the queue parts come that are queued now: of each its id, and digest and platform of its
    image."""
    if not queued:
        return {}
    sizes = await sizes_of(connection, policy.repository_id, {digest for _, digest, _ in queued})
    beside = await sizes_beside(connection, opening.run_spec, {platform for *_, platform in queued})
    of_each = [(platform, sizes.get(digest, 0) + beside.get(platform, 0)) for _, digest, platform in queued]
    taken = await turns(connection, policy.repository_id, opening.urgency, of_each)
    return {
        part_id: {"urgency": opening.urgency, "turn": turn, "size_bytes": size}
        for (part_id, *_), turn, (_, size) in zip(queued, taken, of_each, strict=True)
    }


async def _attached(connection: AsyncConnection, policy: TrialPolicy, opening: Opening) -> Mapping[str, str]:
    """What is attached to each image, where the repository lets images say what is expected of them."""
    if not policy.image_spec_allowed or opening.is_scan_alone:
        return {}
    return await attached_to(connection, policy.repository_id, {image.digest for image in opening.images})


async def _kept_of(
    connection: AsyncConnection,
    settings: Settings,
    policy: TrialPolicy,
    opening: Opening,
    attached: Mapping[str, str],
    *,
    but_not: Collection[RunnableImage],
) -> Mapping[RunnableImage, Kept]:
    """What answers the trial without a run, but for what is answered here. A scan alone is no report."""
    if opening.again or opening.is_scan_alone:
        return {}
    supported = [image for image in opening.images if is_run(image.platform, settings.trial_platforms)]
    sought = Sought(
        policy.repository,
        opening.run_spec,
        policy.image_spec_allowed,
        set(supported).difference(but_not),
        opening.created_by,
        attached,
    )
    return await kept_reports(connection, settings, sought)


async def _make_parts(connection: AsyncConnection, new: Sequence[Mapping[str, Any]]) -> None:
    made = insert(parts).values(run_after=db_time(), created_at=db_time())
    for state, statement in (("queued", made), ("done", made.values(finished_at=db_time()))):
        rows = [row for row in new if row["state"] == state]
        if rows:
            await connection.execute(statement, rows)


def _new_part(
    policy: TrialPolicy, opening: Opening, image: RunnableImage, attached: str | None, *, supported: bool
) -> dict[str, Any]:
    return {
        "id": str(uuid_utils.uuid7()),
        "digest": image.digest,
        "platform": image.platform,
        "run_spec": opening.run_spec,
        "required": needs_with(opening.run_spec, attached),
        "image_specs": attached,
        "asked_by": charged(opening.created_by),
        "image_spec_allowed": policy.image_spec_allowed,
        "state": "queued" if supported else "done",
        "verdict": None if supported else "unsupported",
        "reason": "" if supported else _why_not_run(image.platform),
    }


def _why_not_run(platform: str) -> str:
    if platform == UNKNOWN_PLATFORM:
        return "its image config cannot be read, or names no platform"
    return f"no worker of this registry runs {platform}"
