"""``/api/v1/images``: where an image is, by its digest."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from registry.content import finding as use
from registry.http.api.models import Query
from registry.http.api.routes import Call, Route


class ImagesQuery(Query):
    """Which digest."""

    digest: str = Field(
        max_length=135,
        description="A digest, or its beginning with eight digits at least.",
        examples=["sha256:" + "0" * 12],
        json_schema_extra={"pattern": f"^{use.BEGINNING.pattern}$"},
    )
    limit: int = Field(default=25, ge=1, le=200)


async def find_images(call: Call, query: ImagesQuery) -> Sequence[use.Placed]:
    """In which repositories an image is, of those that the caller may pull from, and which tags name it."""
    return await use.find_placed(
        call.services.database, actor=call.actor, beginning=query.digest, limit=query.limit
    )


ROUTES = (Route("GET", "/images", "anyone", find_images),)
