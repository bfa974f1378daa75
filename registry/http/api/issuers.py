"""``/api/v1/issuers``: OIDC issuers, and who of them is which user here."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from registry.auth.oidc import identities as people
from registry.auth.oidc import issuers as use
from registry.auth.oidc.conditions import Condition
from registry.errors import (
    ConflictError,
    NotFoundError,
    PreconditionFailedError,
    UnavailableError,
)
from registry.http.api.fields import ActorName
from registry.http.api.models import Answer, Body, Page, PageQuery
from registry.http.api.routes import Call, Route
from registry.oci.conditions import Conditions

IssuerName = Annotated[
    str,
    Field(
        description="Name of an issuer.",
        examples=["github"],
        json_schema_extra={"pattern": "^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$"},
    ),
]
Subject = Annotated[str, Field(description="`sub`: who somebody is at an issuer.", min_length=1)]
_NOT_NULL = ("url", "scopes", "name_claim", "groups", "roles", "conditions", "create_accounts")


class ClaimCondition(Body):
    """What a claim has to be: exactly `equals`, or as `glob` says, where `*` is any text without `/` and `:`,
    and `**` any text."""

    claim: str
    equals: str | None = Field(default=None, exclude_if=lambda value: value is None)
    glob: str | None = Field(default=None, exclude_if=lambda value: value is None)


class IssuerFields(Body):
    """What can be said of an issuer."""

    url: str = ""
    client_id: str | None = None
    scopes: tuple[str, ...] = ("profile",)
    name_claim: str = "preferred_username"
    groups_claim: str | None = None
    groups: dict[str, str] = Field(default={}, description="From values of `groups_claim` to our groups.")
    roles: dict[str, Literal["administrator", "auditor"]] = Field(
        default={}, description="From values of `groups_claim`."
    )
    conditions: tuple[ClaimCondition, ...] = ()
    create_accounts: bool = False
    run_url: str | None = None
    commit_claim: str | None = "sha"


class NewIssuer(IssuerFields):
    """An issuer to trust; `client_secret` is not shown again."""

    name: IssuerName
    url: str = Field(description="Exactly as its tokens have it in `iss`.")
    client_secret: str | None = None


class IssuerChange(IssuerFields):
    """What to change; what is left out stays. Another `url` forgets the client secret, unless a new one comes
    with it, and who was whom, and ends the tokens of its jobs."""

    client_secret: str | None = None

    @model_validator(mode="after")
    def _no_nulls(self) -> Self:
        for name in _NOT_NULL:
            if name in self.model_fields_set and getattr(self, name) is None:
                raise ValueError(f"{name} cannot be null")
        return self


class Issuer(Answer):
    """An issuer as it is; never its client secret, only whether there is one."""

    name: str
    url: str
    client_id: str | None
    has_client_secret: bool
    scopes: tuple[str, ...]
    name_claim: str
    groups_claim: str | None
    groups: dict[str, str]
    roles: dict[str, str]
    conditions: tuple[ClaimCondition, ...]
    create_accounts: bool
    run_url: str | None
    commit_claim: str | None
    created_at: datetime
    etag: str = Field(exclude=True)


class IssuerKey(Answer):
    """A key that an issuer signs with."""

    kid: str | None
    algorithms: tuple[str, ...]


class IssuerCheck(Answer):
    """What an issuer says of itself, and the keys that it signs with.

    It was asked ``age_seconds`` ago: what it said in the last minutes is not asked for again."""

    authorization_endpoint: str | None
    token_endpoint: str | None
    jwks_uri: str
    keys: tuple[IssuerKey, ...]
    age_seconds: int


class NewIdentity(Body):
    """Somebody of an issuer, by `sub`, who is to be a user here."""

    subject: Subject
    account: ActorName


class Identity(Answer):
    """Who somebody of an issuer is here."""

    subject: str
    account: str
    created_at: datetime
    last_used_at: datetime | None


async def create_issuer(call: Call, body: NewIssuer) -> Issuer:
    """Trust an OIDC issuer."""
    made = await use.create_issuer(
        call.services.oidc,
        actor=call.actor,
        name=body.name,
        settings=use.IssuerSettings(**_members(body, set(IssuerFields.model_fields))),
        client_secret=body.client_secret,
    )
    return _shown(made)


async def list_issuers(call: Call, query: PageQuery) -> Page[Issuer]:
    """All issuers, by name."""
    found = await use.list_issuers(
        call.services.database, actor=call.actor, limit=query.limit + 1, after=query.cursor
    )
    return query.page([_shown(issuer) for issuer in found], key=lambda issuer: issuer.name)


async def show_issuer(call: Call, name: IssuerName) -> Issuer:
    """One issuer."""
    return _shown(await use.show_issuer(call.services.database, actor=call.actor, name=name))


async def change_issuer(call: Call, name: IssuerName, body: IssuerChange, conditions: Conditions) -> Issuer:
    """Change what an issuer is known by and trusted for."""
    given = body.model_fields_set & set(IssuerFields.model_fields)
    changed = await use.change_issuer(
        call.services.oidc,
        actor=call.actor,
        name=name,
        changes=_members(body, given),
        client_secret=body.client_secret,
        conditions=conditions,
    )
    return _shown(changed)


async def delete_issuer(call: Call, name: IssuerName, conditions: Conditions) -> None:
    """Trust an issuer no longer. Its rules go, and the tokens of its jobs; accounts stay."""
    await use.delete_issuer(call.services.database, actor=call.actor, name=name, conditions=conditions)


async def check_issuer(call: Call, name: IssuerName) -> IssuerCheck:
    """Ask an issuer what it says of itself, and for its keys."""
    issuer = await use.show_issuer(call.services.database, actor=call.actor, name=name)
    told = await people.check(call.services.oidc, issuer)
    return IssuerCheck(
        authorization_endpoint=told.discovery.authorization_endpoint,
        token_endpoint=told.discovery.token_endpoint,
        jwks_uri=told.discovery.jwks_uri,
        keys=tuple(IssuerKey(kid=kid, algorithms=algorithms) for kid, algorithms in told.keys),
        age_seconds=int(told.age_seconds),
    )


async def create_identity(call: Call, name: IssuerName, body: NewIdentity) -> Identity:
    """Say which user somebody of an issuer is."""
    made = await people.link(
        call.services.database, actor=call.actor, issuer=name, subject=body.subject, account=body.account
    )
    return Identity.of(made)


async def list_identities(call: Call, name: IssuerName, query: PageQuery) -> Page[Identity]:
    """Who of an issuer is which user, by `sub`."""
    found = await people.list_identities(
        call.services.database, actor=call.actor, issuer=name, limit=query.limit + 1, after=query.cursor
    )
    return query.page([Identity.of(each) for each in found], key=lambda each: each.subject)


async def delete_identity(call: Call, name: IssuerName, subject: Subject) -> None:
    """Let somebody of an issuer be no user any more; sessions that are open stay until they are ended."""
    await people.unlink(call.services.database, actor=call.actor, issuer=name, subject=subject)


def conditions_of(given: tuple[ClaimCondition, ...]) -> tuple[Condition, ...]:
    """As the use cases take them."""
    return tuple(Condition(each.claim, equals=each.equals, glob=each.glob) for each in given)


def shown_conditions(conditions: tuple[Condition, ...]) -> tuple[ClaimCondition, ...]:
    """As answers show them."""
    return tuple(ClaimCondition(claim=each.claim, equals=each.equals, glob=each.glob) for each in conditions)


def _members(body: IssuerFields, given: set[str]) -> dict[str, Any]:
    members: dict[str, Any] = {name: getattr(body, name) for name in given}
    if "conditions" in members:
        members["conditions"] = conditions_of(body.conditions)
    return members


def _shown(issuer: use.Issuer) -> Issuer:
    members = {name: getattr(issuer.settings, name) for name in IssuerFields.model_fields}
    return Issuer(
        name=issuer.name,
        has_client_secret=issuer.has_secret,
        created_at=issuer.created_at,
        etag=issuer.etag,
        **{**members, "conditions": shown_conditions(issuer.settings.conditions)},
    )


_MISSING = (NotFoundError,)
_CHANGED = (NotFoundError, PreconditionFailedError)
ROUTES = (
    Route("POST", "/issuers", "admin", create_issuer, status=201, errors=(ConflictError,)),
    Route("GET", "/issuers", "admin", list_issuers),
    Route("GET", "/issuers/{name}", "admin", show_issuer, errors=_MISSING),
    Route("PATCH", "/issuers/{name}", "admin", change_issuer, errors=(*_CHANGED, ConflictError)),
    Route("DELETE", "/issuers/{name}", "admin", delete_issuer, errors=_CHANGED),
    Route("POST", "/issuers/{name}/check", "admin", check_issuer, errors=(*_MISSING, UnavailableError)),
    Route(
        "POST",
        "/issuers/{name}/identities",
        "admin",
        create_identity,
        status=201,
        errors=(NotFoundError, ConflictError),
    ),
    Route("GET", "/issuers/{name}/identities", "admin", list_identities, errors=_MISSING),
    Route("DELETE", "/issuers/{name}/identities/{subject}", "admin", delete_identity, errors=_MISSING),
)
