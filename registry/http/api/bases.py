"""What images were built on: ``/api/v1/repositories/{name}/bases`` and ``/children``."""

from __future__ import annotations

from registry.content import bases, manifests
from registry.content.administration import find
from registry.content.bases import BuiltOn, Child
from registry.content.manifests import StoredManifest
from registry.errors import ManifestUnknownError, NameUnknownError
from registry.http.api.fields import ContentDigest, RepositoryName
from registry.http.api.models import Answer, Page, PageQuery
from registry.http.api.routes import Call, Route
from registry.oci.digest import parse_content_digest


class ChildAnswer(Answer):
    """An image that is built on another, directly or not, of which its lowest ``layers`` are."""

    repository: str
    digest: str
    platform: str
    layers: int


async def show_bases(call: Call, name: RepositoryName, digest: ContentDigest) -> list[BuiltOn]:
    """What an image was built on; of an index what the images that it lists were.

    ``base`` is the image of this registry that is most of its layers, by their chain ID, of those that the
    caller may pull; findings with a ``layer`` below ``base.layers`` came with it. ``claimed_name`` and
    ``claimed_digest`` are what the image says itself.
    """
    manifest = await _image(call, name, digest)
    return list(await bases.list_bases(call.services.database, call.actor, manifest))


async def list_children(
    call: Call, name: RepositoryName, digest: ContentDigest, query: PageQuery
) -> Page[ChildAnswer]:
    """The images that are built on an image, the last pushed first, of those that the caller may pull."""
    database = call.services.database
    manifest = await _image(call, name, digest)
    found = await bases.list_children(
        database, call.actor, manifest, limit=query.limit + 1, after=query.number
    )
    page = query.page(found, key=lambda child: str(child.manifest_id))
    return Page([_shown(child) for child in page.items], page.next)


def _shown(child: Child) -> ChildAnswer:
    return ChildAnswer(**{name: getattr(child, name) for name in ChildAnswer.model_fields})


async def _image(call: Call, name: str, digest: str) -> StoredManifest:
    database = call.services.database
    repository = await find(database, actor=call.actor, action="pull", name=name)
    return await manifests.get(database, repository, parse_content_digest(digest))


_GONE = (NameUnknownError, ManifestUnknownError)
ROUTES = (
    Route("GET", "/repositories/{name}/bases/{digest}", "anyone", show_bases, errors=_GONE),
    Route("GET", "/repositories/{name}/children/{digest}", "anyone", list_children, errors=_GONE),
)
