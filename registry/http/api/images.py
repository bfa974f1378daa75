"""An image as requests name it, in the routes of trials and of the gate."""

from __future__ import annotations

from registry.auth.policy import Action
from registry.content.manifests import StoredManifest, unknown
from registry.content.named import find_named
from registry.content.repositories import Repository
from registry.errors import RequestInvalidError
from registry.http.api.fields import ContentDigest, ImageReference, TagName
from registry.http.api.models import Body, Query
from registry.http.api.routes import Call
from registry.oci.digest import parse_content_digest
from registry.oci.names import parse_tag, split_repository_reference


class Image(Body):
    """An image: ``NAME:TAG`` or ``NAME@DIGEST``."""

    image: ImageReference


class ImageQuery(Query):
    """An image: a repository, with tag or digest in it or beside it."""

    image: ImageReference
    tag: TagName | None = None
    digest: ContentDigest | None = None


async def find_image(call: Call, image: str, action: Action) -> tuple[Repository, StoredManifest, str | None]:
    """The repository in which the caller may do ``action``, the image as it was pushed, and the tag that it
    was named by, if by one.

    Raises:
        UnauthorizedError, DeniedError, NameUnknownError: as :func:`registry.content.administration.find`.
        ManifestUnknownError: there is no such image.
    """
    name, tag, digest = split_repository_reference(image)
    by_tag = None if digest else (tag or "latest")
    reference = parse_content_digest(str(digest)) if by_tag is None else by_tag
    repository, found = await find_named(
        call.services.database, actor=call.actor, action=action, name=name, references=[reference]
    )
    if reference not in found:
        raise unknown(reference)
    return repository, found[reference], by_tag


def named(image: str, tag: str | None, digest: str | None) -> str:
    """``image`` with the tag or digest given beside it.

    Raises:
        RequestInvalidError: there are two.
    """
    if tag is not None and digest is not None:
        raise RequestInvalidError("give a tag or a digest, not both")
    if (tag is not None or digest is not None) and (":" in image or "@" in image):
        raise RequestInvalidError("the image has a tag or digest already")
    if tag is not None:
        return f"{image}:{parse_tag(tag)}"
    if digest is not None:
        return f"{image}@{parse_content_digest(digest)}"
    return image
