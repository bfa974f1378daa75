"""Promotion: a tag of one repository is set in another, to an image with all that belongs to it.

It is carried out in one transaction, whatever comes of it: blobs are linked, manifests, referrers, signatures
and verdicts are copied as rows, and then it is looked at what the destination makes of them. Where that is no
pass, or another person has to agree, or it was only asked what would happen, all of it is taken back.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.access import require_writable
from registry.auth.policy import decide, namespace_of
from registry.content import blocks, gathering, quotas
from registry.content import manifests as manifest_use
from registry.content import repositories as repos
from registry.content.administration import find
from registry.content.gathering import Copied, Member
from registry.content.immutability import why_immovable
from registry.content.manifests import StoredManifest
from registry.content.repositories import Repository
from registry.db.content import manifests, tags
from registry.db.dialect import batches, portions
from registry.db.engine import Database, hold_epochs
from registry.db.types import db_time
from registry.errors import (
    ConflictError,
    DeniedError,
    ManifestUnknownError,
    NameUnknownError,
)
from registry.oci.digest import Digest, parse_digest
from registry.oci.names import parse_repository_name
from registry.settings import Settings
from registry.trials.admission import admit_manifest
from registry.trials.asking import max_verdict_age
from registry.trials.carrying import CarriedVerdict, carry_signatures, carry_verdicts
from registry.trials.images import images_of_stored
from registry.trials.opening import Opening, open_trial, trial_policy
from registry.trials.parents import settle_listing
from registry.trials.settling import set_states
from registry.trials.signatures import lacks_signatures
from registry.trials.states import PASSED, effective_state

if TYPE_CHECKING:
    from registry.auth.actor import Actor
    from registry.content.effects import Effects

Would = Literal["promote", "request", "refuse"]


@dataclass(frozen=True, slots=True)
class Referring:
    """A referrer that goes along."""

    digest: str
    artifact_type: str | None


@dataclass(frozen=True, slots=True)
class Preview:
    """What a promotion would do. ``old_digest`` is where the tag stands now; ``state`` what the destination
    would make of the image; ``refusals`` why it would be refused, and where there are none ``would`` says
    whether it needs another person. ``manifests``, ``blobs`` and ``bytes`` are what the destination does not
    hold yet."""

    source: str
    repository: str
    tag: str
    digest: str
    old_digest: str | None
    would: Would
    refusals: Sequence[str]
    state: str
    verdicts: Sequence[CarriedVerdict]
    referrers: Sequence[Referring]
    manifests: int
    blobs: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Destination:
    """A repository that exists, or may be made, and a tag of it."""

    name: str
    tag: str


@dataclass(frozen=True, slots=True)
class Offer:
    """What is promoted where to, by whom, who may read it where it is. ``tag`` is where it was found."""

    source: Repository
    tag: str | None
    digest: Digest
    to: Destination
    actor: Actor
    reason: str

    @property
    def shown(self) -> str:
        """Where from, as people write it."""
        return f"{self.source.name}:{self.tag}" if self.tag else f"{self.source.name}@{self.digest}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of carrying it out, as far as it can still be taken back."""

    into: Repository
    manifest_id: int
    preview: Preview


async def find_offer(
    database: Database,
    settings: Settings,
    *,
    actor: Actor,
    name: str,
    tag: str | None,
    digest: Digest | None,
    to: Destination,
    reason: str,
    base_url: str,
) -> Offer:
    """What the actor wants promoted, if he may read it there and push to where it goes.

    With both a tag and a digest the tag has to stand there.

    Raises:
        UnauthorizedError, DeniedError: he may not pull from the one repository, or push to the other; the
            gate of the first refuses the image; or the registry is read-only.
        NameUnknownError: there is no such source.
        ManifestUnknownError: or no such image in it.
        ConflictError: the tag stands elsewhere.
    """
    await require_destination(database, settings, actor=actor, name=to.name)
    source = await find(database, actor=actor, action="pull", name=name)
    reference = tag if tag is not None else digest
    assert reference is not None, "an image is named by tag or digest"
    held = await manifest_use.get(database, source, reference)
    served = await _readable(database, settings, actor, source, held, tag=tag, base_url=base_url)
    if digest is not None and served.digest != digest:
        raise ConflictError(f"{name}:{tag} stands at {served.digest}, and not at {digest}")
    return Offer(source, tag, served.digest, to, actor, reason)


async def require_destination(database: Database, settings: Settings, *, actor: Actor, name: str) -> None:
    """Let the actor set tags in a repository, which a push may make.

    Raises:
        UnauthorizedError, DeniedError: he may not push to it, or the registry is read-only.
    """
    with suppress(NameUnknownError):  # whether a push makes one is looked at when it does
        await find(database, actor=actor, action="push", name=parse_repository_name(name))
    require_writable(read_only=settings.read_only)
    database.require_room()


async def attempt(connection: AsyncConnection, settings: Settings, effects: Effects, offer: Offer) -> Attempt:
    """Carry a promotion out but for the tag, and look at what the destination makes of it.

    Who takes it all back lets nobody wait for that: with :func:`~registry.db.engine.leave_epochs` before.

    Raises:
        DeniedError: there is no such destination, and a push by the actor makes none.
        NameUnknownError, ManifestUnknownError: the source, or the image, is gone.
        ConflictError: too much belongs to the image.
    """
    digest = str(offer.digest)
    if await repos.find_in(connection, offer.to.name) is None:
        # The namespace first, as who renames it does. Then the source: whoever gives that the new name has it
        # while he waits for who makes a repository of this name.
        await repos.require_namespace(connection, namespace_of(offer.to.name), actor=offer.actor)
        await repos.lock(connection, offer.source.id)
    into = await repos.find_or_create(connection, offer.to.name, settings=settings, actor=offer.actor)
    # In the order of their numbers: two promotions may go opposite ways.
    held = {number: await repos.lock(connection, number) for number in sorted({offer.source.id, into.id})}
    source = await repos.find_in(connection, offer.source.name) if held[offer.source.id] else None
    if source is None or source.id != offer.source.id:
        raise NameUnknownError(f"there is no repository {offer.source.name}")
    if not decide(offer.actor, "pull", source.name, source.visibility).allowed:
        raise NameUnknownError(f"there is no repository {offer.source.name}")
    members = await gathering.gather(connection, source.id, digest)
    if not members:
        raise ManifestUnknownError(f"{offer.source.name} has no image {digest} to promote")
    refusals = [
        f"{one.digest} is blocked in {source.name}: {one.blocked_reason}"
        for one in members
        if one.blocked_reason is not None
    ]
    copied = Copied({}, 0, 0)
    if source.id != into.id:
        copied = await gathering.copy(
            connection, members, source_id=source.id, into_id=into.id, actor=offer.actor
        )
    refusals += await _not_whole(connection, source.id, members)
    verdicts = await _judge(connection, settings, offer, into=into, members=members, copied=copied)
    refusals += [f"{one.platform} ({one.digest}): {one.reason}" for one in verdicts if one.verdict is None]
    manifest_id, old_digest = await _where(connection, into, offer.to.tag, digest)
    coming = quotas.Amounts(tags=old_digest is None)
    try:
        await quotas.enforce(connection, into.id, quotas.Amounts(bytes=copied.bytes), coming=coming)
    except DeniedError as error:
        refusals.append(error.message)
    # Whoever blocks something or requires a signature meets this here: the one or the other sees both.
    await hold_epochs(connection, "content", "gate")
    await carry_signatures(
        connection, source_id=source.id, repository=(into.id, into.name), created=copied.created
    )
    refusals += await _blocked(connection, into, members, copied, effects)
    state, said = await _standing(connection, settings, into, digest)
    refusals += said if not any(one.verdict is None for one in verdicts) else []
    lacks = await lacks_signatures(connection, into, members[0].digest)
    refusals += [f"{digest} {lacks}"] if lacks else []
    if old_digest not in (None, digest):
        why = await why_immovable(connection, into, offer.to.tag, old_digest, actor=offer.actor)
        refusals += [why] if why else []
    preview = Preview(
        source=offer.shown,
        repository=into.name,
        tag=offer.to.tag,
        digest=digest,
        old_digest=old_digest,
        would="refuse" if refusals else "promote",
        refusals=tuple(refusals),
        state=state,
        verdicts=tuple(verdicts),
        referrers=tuple(Referring(one.digest, one.artifact_type) for one in members if one.refers),
        manifests=len(copied.created),
        blobs=copied.blobs,
        bytes=copied.bytes,
    )
    return Attempt(into, manifest_id, preview)


def refused(preview: Preview) -> DeniedError:
    """What whoever asked is told where the destination does not take it."""
    said = "; ".join(preview.refusals)
    return DeniedError(
        f"{preview.source} is not promoted to {preview.repository}:{preview.tag}: {said}",
        detail=list(preview.refusals),
    )


async def _readable(
    database: Database,
    settings: Settings,
    actor: Actor,
    source: Repository,
    held: StoredManifest,
    *,
    tag: str | None,
    base_url: str,
) -> StoredManifest:
    """What a pull by the actor would give: under ``hold`` that may be an earlier image of the tag."""
    served, _ = await admit_manifest(
        database, settings, actor=actor, repository=source, manifest=held, tag=tag, base_url=base_url
    )
    return served


async def _not_whole(connection: AsyncConnection, source_id: int, members: Sequence[Member]) -> list[str]:
    missing = await gathering.missing_of(connection, source_id, [member.id for member in members])
    if not missing:
        return []
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return [f"blob {missing[0]}{more}, of which it is made, is missing"]


async def _judge(
    connection: AsyncConnection,
    settings: Settings,
    offer: Offer,
    *,
    into: Repository,
    members: Sequence[Member],
    copied: Copied,
) -> Sequence[CarriedVerdict]:
    """Let the destination judge the image, and what else came along and can be run or lists something."""
    policy = await trial_policy(connection, into.id)
    told: Sequence[CarriedVerdict] = ()
    judged: set[str] = set()
    for member in members:
        is_first, is_new = member is members[0], member.digest in copied.created
        is_due = is_new and (member.runnable or member.is_index) and member.digest not in judged
        if not (is_first or is_due):
            continue
        inventory = await images_of_stored(connection, into.id, member.digest)
        if inventory.untriable is not None:
            await set_states(connection, into.id, into.name, [(member.digest, *inventory.untriable)])
            continue
        verdicts = await carry_verdicts(
            connection, settings, source_id=offer.source.id, policy=policy, images=inventory.images
        )
        told = verdicts if is_first else told
        is_known = all(one.verdict is not None for one in verdicts)
        # What only came along is tried here, where that is done; the image itself is refused.
        if (is_new or any(one.carried for one in verdicts)) and (
            is_known or (policy.trial_on_push and not is_first)
        ):
            opening = Opening(
                digest=member.digest,
                images=inventory.images,
                run_spec=policy.run_spec,
                cause="request",
                created_by=offer.actor,
                again=False,
            )
            await open_trial(connection, settings, policy, opening)
            judged |= {image.digest for image in inventory.images}
    await settle_listing(connection, settings, policy, children=copied.created.keys(), created_by=offer.actor)
    return told


async def _blocked(
    connection: AsyncConnection,
    into: Repository,
    members: Sequence[Member],
    copied: Copied,
    effects: Effects,
) -> list[str]:
    """Why blocks that count in the destination refuse what came in."""
    for ids in portions(list(copied.created.values())):
        await blocks.catch_all(connection, manifests.c.id.in_(ids), effects.images_blocked)
    rows: list[str] = []
    for portion in batches(one.digest for one in members):
        query = select(manifests.c.digest, manifests.c.blocked_reason).where(
            manifests.c.repository_id == into.id,
            manifests.c.digest.in_(portion),
            manifests.c.blocked_reason.is_not(None),
        )
        rows += [
            f"{row.digest} is blocked in {into.name}: {row.blocked_reason}"
            for row in await connection.execute(query.order_by(manifests.c.id))
        ]
    return rows


async def _standing(
    connection: AsyncConnection, settings: Settings, into: Repository, digest: str
) -> tuple[str, list[str]]:
    """The state of the image in the destination, and why that is no pass."""
    held = await manifest_use.find_in(connection, into.id, parse_digest(digest))
    assert held is not None, "it was copied in this transaction"
    now = (await connection.execute(select(db_time()))).scalar_one()
    effective = effective_state(held, now=now, max_age=max_verdict_age(settings))
    if effective.state in PASSED or effective.state == "blocked":
        return effective.state, []
    because = f": {effective.reason}" if effective.reason else ""
    return effective.state, [f"its state in {into.name} would be {effective.state}{because}"]


async def _where(
    connection: AsyncConnection, into: Repository, tag: str, digest: str
) -> tuple[int, str | None]:
    this = select(manifests.c.id).where(manifests.c.repository_id == into.id, manifests.c.digest == digest)
    stands = (
        select(manifests.c.digest)
        .join(tags, tags.c.manifest_id == manifests.c.id)
        .where(tags.c.repository_id == into.id, tags.c.name == tag)
    )
    old_digest = (await connection.execute(stands)).scalar_one_or_none()
    return (await connection.execute(this)).scalar_one(), old_digest
