"""``/api/v1/gate``: what the gate makes of an image, and what people tell it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import Field

from registry.auth.policy import decide as decide_access
from registry.content.explaining import account_in_question
from registry.errors import (
    ConflictError,
    DigestInvalidError,
    ManifestUnknownError,
    NameInvalidError,
    NameUnknownError,
    NotFoundError,
    RequestInvalidError,
)
from registry.http.api.fields import ContentDigest, Id, NamespaceName, PlaceKey, Time
from registry.http.api.images import Image, ImageQuery, find_image, named
from registry.http.api.models import Body, Page, PageQuery
from registry.http.api.reasons import Reason, numbered, one_line
from registry.http.api.routes import Call, Route
from registry.oci.digest import parse_content_digest
from registry.settings import Gate
from registry.trials import blocking, blockpreview, pausing, preview
from registry.trials.admission import explain_manifest
from registry.trials.gate import (
    Admit,
    AdmitEarlier,
    AdmitWithWarning,
    Decision,
    EffectiveState,
    Refuse,
    Wait,
    Word,
)
from registry.trials.packageblocks import parse_package
from registry.trials.reading import why_not_run

PREVIEWED = timedelta(days=30)
HITS_MAX = 100
BlockPlace = Annotated[
    PlaceKey,
    Field(description="A repository, a namespace with a slash at its end, or `*` for the whole registry."),
]


class BlockedImage(Image):
    """An image to block, and why: everybody who is refused reads it."""

    reason: Reason


class BlockTarget(Body):
    """What is blocked where: by the digest of a manifest, or of a layer (or config) of whatever image; or a
    package, and with it all images that scans found it in, now and later."""

    on: BlockPlace
    digest: ContentDigest | None = None
    package: str | None = Field(
        default=None,
        description="`ECOSYSTEM/NAME`, with or without a range of versions behind it; instead of a digest.",
        examples=["npm/lodash<4.17.21", "Debian:12/openssl"],
    )
    layer: bool = Field(default=False, description="It is the digest of a layer, or of a config.")


class NewBlock(BlockTarget):
    """What to block where, and why: everybody who is refused reads it."""

    reason: Reason


class PreviewedBlock(BlockTarget):
    """What a block would refuse; the images after those of the page that gave the cursor."""

    cursor: Id | None = None


class NewPause(Body):
    """Which namespace, until when, and why."""

    namespace: NamespaceName
    until: Time
    reason: Reason


class PausesQuery(PageQuery):
    """Whose pauses."""

    namespace: NamespaceName | None = None


class BlocksQuery(PageQuery):
    """Whose blocks."""

    on: BlockPlace | None = None


class PreviewQuery(PageQuery):
    """Which gate, where, and pulls since when."""

    name: PlaceKey
    gate: Gate = Field(default="enforce", description="The gate that there would be.")
    since: Time | None = Field(default=None, description="Pulls of this day and later.")


class ExplainQuery(ImageQuery):
    """Which image, and who pulls it."""

    actor: str | None = Field(
        default=None,
        description="Who pulls it, if not the caller: a user, a robot, or `anonymous`.",
        examples=["alice"],
    )


@dataclass(frozen=True, slots=True)
class GateExplanation:
    """What the gate makes of an image. ``digest`` is that of the image as it was pushed, ``served`` of what
    ``actor`` gets: null where that is nothing. ``sentence`` is what he is told."""

    image: str
    actor: str
    digest: str
    served: str | None
    gate: Gate
    state: EffectiveState
    reason: str
    may_push: bool
    decision: Word
    sentence: str
    explain: str
    waits_for: str
    """Why its trial is not run now, where it waits and no worker comes to it."""


async def explain(call: Call, query: ExplainQuery) -> GateExplanation:
    """What the gate says to the caller, or to somebody else, about an image, and why.

    About somebody else may ask an owner of the repository, an administrator or an auditor; what his tokens
    leave him is not looked at.
    """
    repository, manifest, tag = await find_image(call, named(query.image, query.tag, query.digest), "pull")
    services, reader = call.services, call.actor
    if query.actor is not None:
        reader = await account_in_question(
            services.database, caller=call.actor, account=query.actor, target=repository.name
        )
    question, decision = await explain_manifest(
        services.database,
        services.settings,
        actor=reader,
        repository=repository,
        manifest=manifest,
        tag=tag,
    )
    waits_for = ""
    if question.state == "pending":
        waits_for = await why_not_run(
            services.database,
            services.settings,
            repository_id=repository.id,
            repository=repository.name,
            digest=str(manifest.digest),
        )
    access = decide_access(reader, "pull", repository.name, repository.visibility)
    if not access.allowed:
        decision = Refuse(
            access.reason, "who may not pull from the repository does not get as far as the gate"
        )
    return GateExplanation(
        image=repository.name,
        actor=reader.shown,
        digest=str(manifest.digest),
        served=_served(decision, str(manifest.digest), question.earlier),
        gate=question.gate,
        state=question.state,
        reason=question.reason,
        may_push=question.may_push,
        decision=decision.word,
        sentence=decision.sentence,
        explain=decision.explain,
        waits_for=waits_for,
    )


async def preview_gate(call: Call, query: PreviewQuery) -> Page[preview.Stopped]:
    """Images that were pulled, and that another gate would not simply admit; with who pulled them.

    Without `since`, the last 30 days. For maintainers, administrators and auditors.
    """
    found = await preview.preview(
        call.services.database,
        call.services.settings,
        actor=call.actor,
        name=query.name,
        gate=query.gate,
        since=query.since or datetime.now(UTC) - PREVIEWED,
        limit=query.limit + 1,
        after=query.cursor,
    )
    return query.page(found, key=lambda each: each.cursor)


async def block(call: Call, body: BlockedImage) -> None:
    """Refuse an image to everybody, whatever its verdict."""
    reason = one_line(body.reason)
    repository, manifest, _ = await find_image(call, body.image, "configure")
    await blocking.block_image(
        call.services.database, repository, digest=str(manifest.digest), reason=reason, actor=call.actor
    )


async def unblock(call: Call, body: Image) -> None:
    """Let an image be what its verdict makes it, unless a wider block, or one of a layer, refuses it."""
    repository, manifest, _ = await find_image(call, body.image, "configure")
    await blocking.unblock_image(
        call.services.database, repository, digest=str(manifest.digest), actor=call.actor
    )


async def create_block(call: Call, body: NewBlock) -> blocking.Block:
    """Refuse an image, or all images with a layer or a package, to everybody.

    Those that are there at once, and those that are pushed, or of which a scan finds the package, later.
    """
    return await blocking.add(
        call.services.database,
        actor=call.actor,
        on=body.on,
        target=_target(body),
        reason=one_line(body.reason),
    )


async def preview_block(call: Call, body: PreviewedBlock) -> Page[blockpreview.Hit]:
    """The images that a block would refuse now; nothing changes. For who may make it, and auditors.

    Those that are pushed, or of which a scan finds the package, later are refused as well.
    """
    found = await blockpreview.preview(
        call.services.database,
        actor=call.actor,
        on=body.on,
        target=_target(body),
        limit=HITS_MAX + 1,
        after=0 if body.cursor is None else numbered(body.cursor, "page"),
    )
    return PageQuery(limit=HITS_MAX).page(found, key=lambda each: each.cursor)


def _target(body: BlockTarget) -> blocking.Target:
    if body.package is not None:
        if body.digest is not None or body.layer:
            raise RequestInvalidError("a block names a digest or a package, and not both")
        return blocking.Target("package", package=parse_package(body.package))
    if body.digest is None:
        raise RequestInvalidError("a block names a digest or a package")
    return blocking.Target("layer" if body.layer else "image", str(parse_content_digest(body.digest)))


async def list_blocks(call: Call, query: BlocksQuery) -> Page[blocking.Block]:
    """Blocks, the oldest first; for maintainers those of what is theirs."""
    found = await blocking.list_blocks(
        call.services.database,
        actor=call.actor,
        on=query.on,
        limit=query.limit + 1,
        after=query.number or 0,
    )
    return query.page(found, key=lambda each: str(each.id))


async def delete_block(call: Call, block_id: Id) -> None:
    """Take a block back; what another one refuses stays refused."""
    await blocking.remove(call.services.database, actor=call.actor, block_id=numbered(block_id, "block"))


async def pause_gate(call: Call, body: NewPause) -> pausing.Pause:
    """Let the gates below a namespace only warn until a time, at most 7 days from now.

    In the place of the pause that there is.
    """
    return await pausing.pause(
        call.services.database,
        actor=call.actor,
        namespace=body.namespace,
        until=body.until,
        reason=one_line(body.reason),
    )


async def list_pauses(call: Call, query: PausesQuery) -> Page[pausing.Pause]:
    """Pauses that have not ended, by namespace."""
    found = await pausing.list_pauses(
        call.services.database,
        actor=call.actor,
        namespace=query.namespace,
        limit=query.limit + 1,
        after=query.cursor or "",
    )
    return query.page(found, key=lambda each: each.namespace)


async def resume_gate(call: Call, name: NamespaceName) -> None:
    """End a pause before its time."""
    await pausing.resume(call.services.database, actor=call.actor, namespace=name)


def _served(decision: Decision, pushed: str, earlier: str) -> str | None:
    match decision:
        case Admit() | AdmitWithWarning():
            return pushed
        case AdmitEarlier():
            return earlier
        case Wait() | Refuse():
            return None


_GONE = (NotFoundError, NameUnknownError, ManifestUnknownError)
_BAD_PLACE = (NotFoundError, NameUnknownError, NameInvalidError, DigestInvalidError)
ROUTES = (
    Route("GET", "/gate", "anyone", explain, errors=_GONE),
    Route("GET", "/gate/preview", "anyone", preview_gate, errors=(NameUnknownError, NameInvalidError)),
    Route("POST", "/gate/block", "anyone", block, errors=_GONE),
    Route("POST", "/gate/unblock", "anyone", unblock, errors=(*_GONE, ConflictError)),
    Route("POST", "/gate/blocks", "anyone", create_block, status=201, errors=_BAD_PLACE),
    Route("POST", "/gate/blocks/preview", "anyone", preview_block, errors=_BAD_PLACE),
    Route("GET", "/gate/blocks", "anyone", list_blocks),
    Route("DELETE", "/gate/blocks/{block_id}", "anyone", delete_block, errors=(NotFoundError,)),
    Route("POST", "/gate/pauses", "anyone", pause_gate, status=201, errors=(NotFoundError,)),
    Route("GET", "/gate/pauses", "anyone", list_pauses, errors=(NameInvalidError,)),
    Route("DELETE", "/gate/pauses/{name}", "anyone", resume_gate, errors=(NotFoundError,)),
)
