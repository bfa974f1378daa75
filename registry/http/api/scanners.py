"""``/api/v1/scanners``: which other scanners look at the images of a place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from registry.contract.scan import SCANNER_NAME
from registry.errors import ConflictError, NameInvalidError, NameUnknownError, NotFoundError
from registry.http.api.fields import PlaceKey
from registry.http.api.models import Body, Query
from registry.http.api.routes import Call, Route
from registry.trials import scanners as use

ScannerName = Annotated[
    str,
    Field(
        description="Under which it tells what it finds.",
        examples=["trivy"],
        json_schema_extra={"pattern": SCANNER_NAME},
    ),
]


class ScannersQuery(Query):
    """Those of which place."""

    on: PlaceKey


class ScannerQuery(ScannersQuery):
    """One of a place."""

    name: ScannerName


class NewScanner(Body):
    """What is to look where. ``image`` is one of this registry; a tag is resolved now, and not again."""

    on: PlaceKey
    name: ScannerName
    image: str = Field(examples=["tools/trivy:1"])


@dataclass(frozen=True, slots=True)
class ScannersPage:
    """All of them, by name."""

    items: Sequence[use.PlacedScanner]


async def list_scanners(call: Call, query: ScannersQuery) -> ScannersPage:
    """The scanners that look at the images of a repository, or of all below a namespace.

    Each with the place where it was set: there or above it. Of one name the nearest looks."""
    return ScannersPage(await use.list_scanners(call.services.database, actor=call.actor, on=query.on))


async def put_scanner(call: Call, body: NewScanner) -> use.PlacedScanner:
    """Have an image of this registry look at each image of a place that is scanned from now on.

    Whoever sets it may pull it, and the gate admits it to any reader. One of that name is replaced.
    """
    return await use.put(
        call.services.database,
        call.services.blobs,
        call.services.settings,
        actor=call.actor,
        on=body.on,
        name=body.name,
        image=body.image,
    )


async def preview_scanner(call: Call, body: NewScanner) -> use.ScannerPreview:
    """Tell what setting a scanner would do; nothing is changed.

    The checks are the same. The image by digest, what it says of itself, what it replaces, and for each
    platform how many workers could run it now.
    """
    return await use.preview(
        call.services.database,
        call.services.blobs,
        call.services.settings,
        actor=call.actor,
        on=body.on,
        name=body.name,
        image=body.image,
    )


async def remove_scanner(call: Call, query: ScannerQuery) -> None:
    """Have a scanner look at the images of a place no longer; one of a namespace above looks again."""
    await use.remove(call.services.database, actor=call.actor, on=query.on, name=query.name)


_NOWHERE = (NameInvalidError, NameUnknownError, NotFoundError)
ROUTES = (
    Route("GET", "/scanners", "anyone", list_scanners, errors=_NOWHERE),
    Route("PUT", "/scanners", "anyone", put_scanner, errors=(*_NOWHERE, ConflictError)),
    Route("POST", "/scanners/preview", "anyone", preview_scanner, errors=(*_NOWHERE, ConflictError)),
    Route("DELETE", "/scanners", "anyone", remove_scanner, errors=_NOWHERE),
)
