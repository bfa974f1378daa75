"""``/api/v1/hooks``: addresses to which others send messages that ask for trials."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from registry.errors import ConflictError, NameUnknownError, NotFoundError
from registry.events.signatures import Scheme
from registry.http.api.fields import NamespaceName, RepositoryName, UpstreamName
from registry.http.api.models import Answer, Body, Page
from registry.http.api.places import PlaceQuery, place_of
from registry.http.api.routes import Call, Route
from registry.trials import hooks as use

HookName = Annotated[
    str,
    Field(
        description="Name of a hook, the last part of its address `/hooks/NAME`.",
        examples=["ci"],
        json_schema_extra={"pattern": "^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$"},
    ),
]
MappingField = Annotated[
    dict[str, str] | Literal["docker"],
    Field(
        description="From `image`, or `repository` with `tag` or `digest`, and `spec`, to JSON pointers into "
        "the message; or `docker`, whose notifications are understood.",
        examples=[{"repository": "/repository/name", "tag": "/release/tag_name"}],
    ),
]


class NewHook(Body):
    """A hook to make: for images of a repository, of a namespace with all below it, or (neither) of all."""

    name: HookName
    repository: RepositoryName | None = None
    namespace: NamespaceName | None = None
    scheme: Scheme = Field(
        default="standard",
        description="How messages are signed: `standard` (Standard Webhooks), `github` "
        "(X-Hub-Signature-256), `gitlab` (X-Gitlab-Token), `bearer` (Authorization).",
    )
    mapping: MappingField = Field(default={"image": "/image"})
    call_back: str | None = Field(default=None, description="Where the ends of its trials are sent to.")
    upstream: UpstreamName | None = Field(
        default=None,
        description="The registry whose images messages name, if not this one; of the same namespace.",
    )


class Hook(Answer):
    """A hook, never with its secret; `webhook_id` is the webhook that calls back."""

    name: str
    path: str
    place: str | None
    scheme: Scheme
    mapping: Mapping[str, str] | str
    webhook_id: str | None
    upstream: str | None
    created_by: str
    created_at: datetime
    old_secret_until: datetime | None


class HookSecret(Hook):
    """A hook with its secret, and that of the webhook that calls back; both are shown this once."""

    secret: str
    call_back_secret: str | None


class NewSecret(Answer):
    """The new secret, which is shown this once; until then the old one is taken as well."""

    name: str
    secret: str
    old_secret_until: datetime | None


class HookRotation(Body):
    """How to replace the secret."""

    at_once: bool = Field(default=False, description="The old one is taken no more: it was stolen.")


async def create_hook(call: Call, body: NewHook) -> HookSecret:
    """Take messages at `/hooks/NAME` that ask for trials."""
    made = await use.create(
        call.services.database,
        call.services.secret_key,
        call.services.outgoing,
        actor=call.actor,
        name=body.name,
        place=place_of(body.repository, body.namespace),
        scheme=body.scheme,
        mapping=body.mapping,
        call_back=body.call_back,
        upstream=body.upstream,
    )
    shown = dict(_shown(made.hook))
    return HookSecret(**shown, secret=made.secret, call_back_secret=made.call_back_secret)


async def list_hooks(call: Call, query: PlaceQuery) -> Page[Hook]:
    """Hooks of a place, or all."""
    found = await use.list_hooks(
        call.services.database,
        actor=call.actor,
        place=place_of(query.repository, query.namespace),
        limit=query.limit + 1,
        after=query.cursor,
    )
    return query.page([_shown(each) for each in found], key=lambda each: each.name)


async def show_hook(call: Call, name: HookName) -> Hook:
    """One hook."""
    return _shown(await use.show(call.services.database, actor=call.actor, name=name))


async def delete_hook(call: Call, name: HookName) -> None:
    """Take no more messages at this address; the webhook that calls back for it goes too."""
    await use.remove(call.services.database, actor=call.actor, name=name)


async def rotate_hook(call: Call, name: HookName, body: HookRotation) -> NewSecret:
    """Replace the secret. For a day messages with the old one are taken as well."""
    hook, secret = await use.rotate(
        call.services.database, call.services.secret_key, actor=call.actor, name=name, at_once=body.at_once
    )
    return NewSecret(name=name, secret=secret, old_secret_until=hook.old_secret_until)


def _shown(hook: use.Hook) -> Hook:
    members = {member: getattr(hook, member) for member in Hook.model_fields if member != "path"}
    return Hook(path=f"/hooks/{hook.name}", **members)


_MISSING = (NotFoundError,)
ROUTES = (
    Route(
        "POST", "/hooks", "anyone", create_hook, status=201,
        errors=(NameUnknownError, NotFoundError, ConflictError),
        secrets=("secret", "call_back_secret"),
    ),
    Route("GET", "/hooks", "anyone", list_hooks, errors=(NameUnknownError, NotFoundError)),
    Route("GET", "/hooks/{name}", "account", show_hook, errors=_MISSING),
    Route("DELETE", "/hooks/{name}", "account", delete_hook, errors=_MISSING),
    Route("POST", "/hooks/{name}/rotate", "account", rotate_hook, errors=_MISSING, secrets=("secret",)),
)  # fmt: skip
