"""``/api/v1/secrets``: values that the environments of run specs name."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

from pydantic import Field

from registry.auth.places import Place
from registry.contract.secrets import MAX_BYTES, MIN_BYTES, NAME
from registry.errors import ConflictError, NameUnknownError, NotFoundError, RequestInvalidError
from registry.http.api.fields import Id, NamespaceName, RepositoryName
from registry.http.api.models import Answer, Body, Page
from registry.http.api.places import PlaceQuery, place_of
from registry.http.api.routes import Call, Route
from registry.trials import secrets as use

Value = Annotated[
    str,
    Field(
        description="What it stands for, 8 bytes to 4 KiB of text; no answer shows it.",
        examples=["only for trials"],
        json_schema_extra={"minLength": MIN_BYTES, "maxLength": MAX_BYTES},
        repr=False,
    ),
]


class SecretToKeep(Body):
    """A secret to keep: for the run specs of a repository, or of all below a namespace."""

    name: Annotated[
        str,
        Field(
            description="What run specs name it by.",
            examples=["DATABASE_PASSWORD"],
            json_schema_extra={"pattern": NAME},
        ),
    ]
    repository: RepositoryName | None = None
    namespace: NamespaceName | None = None
    value: Value


class Rotation(Body):
    """Another value."""

    value: Value


class Secret(Answer):
    """A secret, never with its value."""

    id: str
    name: str
    place: str
    created_by: str
    created_at: datetime
    rotated_at: datetime | None


class ListedSecret(Secret):
    """A secret with what uses it."""

    used_by: tuple[str, ...] = Field(
        description="The first repositories by name whose own run spec gets this value: it names it, and "
        "nearer to them is none of that name."
    )
    used_by_all: bool = Field(description="Whether these are all, as far as was looked.")


async def create_secret(call: Call, body: SecretToKeep) -> Secret:
    """Keep a value that run specs may name."""
    services = call.services
    made = await use.create(
        services.database,
        services.secret_key,
        actor=call.actor,
        name=body.name,
        place=_one_place(body.repository, body.namespace),
        value=body.value,
    )
    return Secret.of(made)


async def list_secrets(call: Call, query: PlaceQuery) -> Page[ListedSecret]:
    """Secrets of a repository or a namespace, without their values, each with what uses it."""
    found = await use.list_secrets(
        call.services.database,
        actor=call.actor,
        place=_one_place(query.repository, query.namespace),
        limit=query.limit + 1,
        after=query.cursor,
    )
    listed = [
        ListedSecret(**asdict(each.secret), used_by=each.used_by, used_by_all=each.is_all) for each in found
    ]
    return query.page(listed, key=lambda each: each.name)


async def rotate_secret(call: Call, secret_id: Id, body: Rotation) -> Secret:
    """Keep another value under the same name."""
    services = call.services
    return Secret.of(
        await use.rotate(
            services.database, services.secret_key, actor=call.actor, secret_id=secret_id, value=body.value
        )
    )


async def delete_secret(call: Call, secret_id: Id) -> None:
    """Forget a secret."""
    await use.remove(call.services.database, actor=call.actor, secret_id=secret_id)


def _one_place(repository: str | None, namespace: str | None) -> Place:
    place = place_of(repository, namespace)
    if place is None:
        raise RequestInvalidError("give a repository or a namespace: a secret is of one of them")
    return place


ROUTES = (
    Route(
        "POST", "/secrets", "anyone", create_secret, status=201,
        errors=(NameUnknownError, NotFoundError, ConflictError),
    ),
    Route("GET", "/secrets", "anyone", list_secrets, errors=(NameUnknownError, NotFoundError)),
    Route("POST", "/secrets/{secret_id}/rotate", "account", rotate_secret, errors=(NotFoundError,)),
    Route("DELETE", "/secrets/{secret_id}", "account", delete_secret, errors=(NotFoundError,)),
)  # fmt: skip
