"""``/api/v1/waivers``: what the gate lets pass for a while, who asked for it and who granted it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from registry.content import manifests
from registry.content.administration import find
from registry.errors import ConflictError, ManifestUnknownError, NameUnknownError, NotFoundError
from registry.http.api.fields import Id, ImageReference, RepositoryName, Time
from registry.http.api.models import Body, Page, PageQuery
from registry.http.api.reasons import Reason, numbered, one_line
from registry.http.api.routes import Call, Route
from registry.oci.digest import parse_content_digest
from registry.oci.names import split_repository_reference
from registry.trials import waiving as use

FindingName = Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[!-~]+$")]


class NewWaiver(Body):
    """For what, in which states, until when and why. Of an image by a tag its digest is taken."""

    image: ImageReference = Field(
        description="`NAME:TAG`, `NAME@DIGEST`, or `NAME` for all images of the repository.",
        examples=["team/app@sha256:" + "0" * 64],
    )
    states: list[use.WaivedState] = Field(
        default_factory=list, max_length=5, description="In which it is let pass; or else `finding`."
    )
    finding: FindingName | None = Field(
        default=None,
        description="The only finding that is excused, as `CVE-2025-9230`; then there are no states.",
    )
    package: FindingName | None = Field(default=None, description="Only in this package, or in its source.")
    reason: Reason
    expires_at: Time


class WaiversQuery(PageQuery):
    """Whose waivers."""

    repository: RepositoryName | None = None


async def request_waiver(call: Call, body: NewWaiver) -> use.Waiver:
    """Ask that an image, or all of a repository, be admitted for a while.

    For those who may push. It counts when a maintainer has granted it.
    """
    reason = one_line(body.reason)
    name, tag, digest = split_repository_reference(body.image)
    database = call.services.database
    named = None if digest is None else str(parse_content_digest(str(digest)))
    if named is None and tag is not None:
        repository = await find(database, actor=call.actor, action="push", name=name)
        named = str((await manifests.get(database, repository, tag)).digest)
    return await use.request(
        database,
        call.services.settings,
        actor=call.actor,
        name=name,
        digest=named,
        states=body.states,
        reason=reason,
        expires_at=body.expires_at,
        finding=body.finding,
        package=body.package,
    )


async def list_waivers(call: Call, query: WaiversQuery) -> Page[use.Waiver]:
    """Waivers, the newest first, also those that have ended; for who may pull those of the repository."""
    found = await use.list_waivers(
        call.services.database,
        actor=call.actor,
        name=query.repository,
        limit=query.limit + 1,
        before=query.number,
    )
    return query.page(found, key=lambda each: str(each.id))


async def show_waiver(call: Call, waiver_id: Id) -> use.Waiver:
    """One waiver."""
    return await use.show(call.services.database, actor=call.actor, waiver_id=numbered(waiver_id, "waiver"))


async def grant_waiver(call: Call, waiver_id: Id) -> use.Waiver:
    """Let a waiver count; for maintainers, and where the namespace says so for another one than who asked."""
    return await use.grant(call.services.database, actor=call.actor, waiver_id=numbered(waiver_id, "waiver"))


async def revoke_waiver(call: Call, waiver_id: Id) -> use.Waiver:
    """Refuse a waiver or end it; for maintainers, and for who asked for it."""
    return await use.revoke(call.services.database, actor=call.actor, waiver_id=numbered(waiver_id, "waiver"))


_GONE = (NotFoundError, NameUnknownError, ManifestUnknownError)
ROUTES = (
    Route("POST", "/waivers", "anyone", request_waiver, status=201, errors=(*_GONE, ConflictError)),
    Route("GET", "/waivers", "anyone", list_waivers, errors=(NameUnknownError,)),
    Route("GET", "/waivers/{waiver_id}", "anyone", show_waiver, errors=(NotFoundError,)),
    *(
        Route(
            "POST",
            f"/waivers/{{waiver_id}}/{word}",
            "anyone",
            handler,
            errors=(NotFoundError, ConflictError),
        )
        for word, handler in (("grant", grant_waiver), ("revoke", revoke_waiver))
    ),
)
