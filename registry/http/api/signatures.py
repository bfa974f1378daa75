"""``/api/v1/signature-rules``: who must have signed what is pulled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from registry.errors import ConflictError, NameUnknownError, NotFoundError, RequestInvalidError
from registry.http.api.fields import Id
from registry.http.api.models import Body, Query
from registry.http.api.routes import Call, Route
from registry.trials import signaturerules as use

KEY_MAX = 8192
On = Annotated[
    str,
    Field(
        max_length=300,
        description="A repository, or a namespace with a slash at its end.",
        examples=["team/app", "team/"],
    ),
]


class SignatureRulesQuery(Query):
    """The rules of which place."""

    on: On


class NewSignatureRule(Body):
    """Who must have signed: the holder of a key (PEM), or whom an OIDC issuer calls so, where `*` in
    `subject` stands for anything."""

    on: On
    name: str = Field(json_schema_extra={"minLength": 1, "maxLength": 100}, description="What it is called.")
    public_pem: str | None = Field(default=None, max_length=KEY_MAX)
    issuer: str | None = Field(default=None, max_length=500)
    subject: str | None = Field(default=None, max_length=500)


async def list_signature_rules(call: Call, query: SignatureRulesQuery) -> Sequence[use.SignatureRule]:
    """The signatures that are required in a repository, or in all below a namespace.

    Of those on one place one is enough; each place above a repository that has some must be satisfied."""
    return await use.list_rules(call.services.database, actor=call.actor, on=query.on)


async def create_signature_rule(call: Call, body: NewSignatureRule) -> use.SignatureRule:
    """Require a signature of what is pulled from now on, and of what is there."""
    name = body.name.strip()
    if not name.isprintable() or not 0 < len(name) <= 100:
        raise RequestInvalidError("name: must have 1 to 100 printable characters")
    wanted = use.Wanted(name, body.public_pem, body.issuer, body.subject)
    return await use.create(call.services.database, actor=call.actor, on=body.on, wanted=wanted)


async def drop_signature_rule(call: Call, rule_id: Id, query: SignatureRulesQuery) -> None:
    """Require a signature no longer."""
    if not (rule_id.isascii() and rule_id.isdigit() and len(rule_id) < 19):
        raise NotFoundError(f"{query.on} has no rule {rule_id[:80]!r} for signatures")
    await use.drop(call.services.database, actor=call.actor, on=query.on, rule_id=int(rule_id))


_NOWHERE = (NameUnknownError, NotFoundError)
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
    Route("DELETE", "/signature-rules/{rule_id}", "anyone", drop_signature_rule, errors=_NOWHERE),
)
