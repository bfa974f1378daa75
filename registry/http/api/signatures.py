"""``/api/v1/signature-rules``: who must have signed what is pulled."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from registry.content.administration import find
from registry.errors import ConflictError, NameInvalidError, NameUnknownError, NotFoundError
from registry.http.api.fields import Id, PlaceKey, RepositoryName
from registry.http.api.models import Body, Page, PageQuery, Query
from registry.http.api.reasons import numbered
from registry.http.api.routes import Call, Route
from registry.trials import signaturerules as use
from registry.trials.signedtags import SignedTag, list_signed_tags

KEY_MAX = 8192


class SignatureRulesQuery(Query):
    """The rules of which place."""

    on: PlaceKey


class NewSignatureRule(Body):
    """Who must have signed: the holder of a key (PEM), or whom an OIDC issuer calls so, where `*` in
    `subject` stands for anything."""

    on: PlaceKey
    name: str = Field(
        json_schema_extra={"minLength": 1, "maxLength": use.NAME_MAX}, description="What it is called."
    )
    public_pem: str | None = Field(default=None, max_length=KEY_MAX)
    issuer: str | None = Field(default=None, max_length=500)
    subject: str | None = Field(default=None, max_length=500)


async def list_signature_rules(call: Call, query: SignatureRulesQuery) -> Sequence[use.SignatureRule]:
    """The signatures that are required in a repository, or in all below a namespace.

    Of those on one place one is enough; each place above a repository that has some must be satisfied."""
    return await use.list_rules(call.services.database, actor=call.actor, on=query.on)


async def create_signature_rule(call: Call, body: NewSignatureRule) -> use.SignatureRule:
    """Require a signature of what is pulled from now on, and of what is there."""
    wanted = use.Wanted(body.name, body.public_pem, body.issuer, body.subject)
    return await use.create(call.services.database, actor=call.actor, on=body.on, wanted=wanted)


async def delete_signature_rule(call: Call, rule_id: Id) -> None:
    """Require a signature no longer."""
    number = numbered(rule_id, "rule for signatures")
    await use.remove(call.services.database, actor=call.actor, rule_id=number)


async def list_signatures(call: Call, name: RepositoryName, query: PageQuery) -> Page[SignedTag]:
    """The tags of a repository by name, and whether each has the signatures that are required of it."""
    database = call.services.database
    repository = await find(database, actor=call.actor, action="pull", name=name)
    found = await list_signed_tags(database, repository, limit=query.limit + 1, after=query.cursor)
    return query.page(found, key=lambda one: one.tag)


_NOWHERE = (NameInvalidError, NameUnknownError, NotFoundError)
ROUTES = (
    Route("GET", "/signature-rules", "anyone", list_signature_rules, errors=_NOWHERE),
    Route(
        "POST",
        "/signature-rules",
        "anyone",
        create_signature_rule,
        status=201,
        errors=(*_NOWHERE, ConflictError),
    ),
    Route("DELETE", "/signature-rules/{rule_id}", "anyone", delete_signature_rule, errors=(NotFoundError,)),
    Route("GET", "/repositories/{name}/signatures", "anyone", list_signatures, errors=(NameUnknownError,)),
)
