"""``/api/v1/upstreams``: other registries whose images are tried."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from pydantic import Field

from registry.auth import places
from registry.errors import ConflictError, NotFoundError, UnavailableError
from registry.http.api.fields import NamespaceName, UpstreamName
from registry.http.api.models import Answer, Body, Page, PageQuery
from registry.http.api.routes import Call, Route
from registry.trials import upstreams as use

Host = Annotated[
    str,
    Field(description="Host of a registry, and its port.", examples=["docker.example"], max_length=260),
]


class UpstreamsQuery(PageQuery):
    """Whose upstreams."""

    namespace: NamespaceName


class NewUpstream(Body):
    """Another registry, whose images the writers of a namespace may have tried."""

    name: UpstreamName
    namespace: NamespaceName
    host: Host
    repositories: list[str] = Field(
        default=["*"],
        description="Names of the repositories there whose images may be tried; `*` stands for anything.",
        examples=[["library/*"]],
    )
    username: str | None = Field(default=None, description="Whom it is asked as, by password.")
    secret: str | None = Field(
        default=None,
        description="The password; without a user name a token, which it takes itself. It is never shown.",
        repr=False,
    )
    token_host: Host | None = Field(
        default=None,
        description="The host of its token service, if another: it is told the password as well.",
    )
    plain_http: bool = Field(
        default=False, description="Asked without TLS; only in networks that the operator lists."
    )
    max_bytes: int = Field(default=use.MAX_BYTES_DEFAULT, ge=1, le=2**62, description="Largest image copied.")


class NewCredential(Body):
    """What an upstream is asked with from now on."""

    username: str | None = Field(default=None, description="Whom it is asked as, by password.")
    secret: str | None = Field(
        repr=False, description="The password or, without a user name, a token; null: it is asked as nobody."
    )


class Upstream(Answer):
    """Another registry, never with the password or token it is asked with."""

    name: str
    place: str
    host: str
    plain_http: bool
    token_host: str | None
    repositories: Sequence[str]
    max_bytes: int
    username: str | None
    has_secret: bool
    created_by: str
    created_at: datetime


async def add_upstream(call: Call, body: NewUpstream) -> Upstream:
    """Let the writers of a namespace have images of another registry tried."""
    services = call.services
    wanted = use.Wanted(
        name=body.name,
        namespace=places.namespace(body.namespace),
        host=body.host,
        plain_http=body.plain_http,
        token_host=body.token_host,
        repositories=body.repositories,
        max_bytes=body.max_bytes,
        username=body.username,
        secret=body.secret,
    )
    added = await use.add(
        services.database,
        services.settings,
        services.secret_key,
        services.outgoing,
        actor=call.actor,
        wanted=wanted,
    )
    return Upstream.of(added)


async def list_upstreams(call: Call, query: UpstreamsQuery) -> Page[Upstream]:
    """Upstreams of a namespace, for those who may have images of them tried."""
    found = await use.list_upstreams(
        call.services.database,
        actor=call.actor,
        namespace=places.namespace(query.namespace),
        limit=query.limit + 1,
        after=query.cursor,
    )
    return query.page([Upstream.of(each) for each in found], key=lambda each: each.name)


async def show_upstream(call: Call, name: UpstreamName) -> Upstream:
    """One upstream."""
    return Upstream.of(await use.show(call.services.database, actor=call.actor, name=name))


async def replace_upstream_credential(call: Call, name: UpstreamName, body: NewCredential) -> Upstream:
    """Ask an upstream with another password or token from the next copy on, or with none."""
    services = call.services
    changed = await use.replace_credential(
        services.database,
        services.settings,
        services.secret_key,
        actor=call.actor,
        name=name,
        username=body.username,
        secret=body.secret,
    )
    return Upstream.of(changed)


async def delete_upstream(call: Call, name: UpstreamName) -> None:
    """Forget an upstream with its password or token, what was copied from it, and the trials of that."""
    services = call.services
    await use.remove(services.database, services.blobs, services.settings, actor=call.actor, name=name)


ROUTES = (
    Route(
        "POST", "/upstreams", "anyone", add_upstream, status=201,
        errors=(NotFoundError, ConflictError, UnavailableError),
    ),
    Route("GET", "/upstreams", "anyone", list_upstreams, errors=(NotFoundError,)),
    Route("GET", "/upstreams/{name}", "account", show_upstream, errors=(NotFoundError,)),
    Route("PATCH", "/upstreams/{name}", "account", replace_upstream_credential, errors=(NotFoundError,)),
    Route("DELETE", "/upstreams/{name}", "account", delete_upstream, errors=(NotFoundError, ConflictError)),
)  # fmt: skip
