"""``/api/v1/workload-rules``: which jobs of OIDC issuers get which tokens."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from pydantic import Field, model_validator

from registry.auth.oidc import explain as explaining
from registry.auth.oidc import rules as use
from registry.errors import ConflictError, NotFoundError, PreconditionFailedError, UnavailableError
from registry.http.api.issuers import ClaimCondition, IssuerName, conditions_of, shown_conditions
from registry.http.api.models import Answer, Body, Page, PageQuery
from registry.http.api.routes import Call, Route
from registry.oci.conditions import Conditions


class NewRule(Body):
    """Jobs of `issuer` whose token is for `audience` alone and meets all `conditions` act as `account`, a
    robot or a user, within `scopes`."""

    name: IssuerName
    issuer: IssuerName
    audience: str
    conditions: tuple[ClaimCondition, ...]
    account: str
    scopes: tuple[str, ...]
    seconds: int = Field(default=use.DEFAULT_SECONDS, ge=use.MIN_SECONDS, le=use.MAX_SECONDS)


class RuleChange(Body):
    """What to change; what is left out stays. The tokens that jobs have by the rule end."""

    issuer: IssuerName | None = None
    audience: str | None = None
    conditions: tuple[ClaimCondition, ...] | None = None
    account: str | None = None
    scopes: tuple[str, ...] | None = None
    seconds: int | None = Field(default=None, ge=use.MIN_SECONDS, le=use.MAX_SECONDS)

    @model_validator(mode="after")
    def _no_nulls(self) -> Self:
        for name in self.model_fields_set:
            if getattr(self, name) is None:
                raise ValueError(f"{name} cannot be null")
        return self


class Rule(Answer):
    """A rule as it is."""

    name: str
    issuer: str
    audience: str
    conditions: tuple[ClaimCondition, ...]
    account: str
    scopes: tuple[str, ...]
    seconds: int
    created_at: datetime
    etag: str = Field(exclude=True)


class GivenToken(Body):
    """A job's token, which is looked at and not kept."""

    token: str


class RuleLookedAt(Answer):
    """How one rule stands to a token; `missing` are the conditions that do not hold."""

    name: str
    holds: bool
    missing: tuple[str, ...]


class WorkloadExplanation(Answer):
    """What would become of a job's token; `rule` is the one that it meets, `reason` why there is none."""

    rule: str | None
    reason: str
    claims: tuple[str, ...]
    looked_at: tuple[RuleLookedAt, ...]


async def create_rule(call: Call, body: NewRule) -> Rule:
    """Let jobs of an issuer in."""
    members = {name: getattr(body, name) for name in use.RuleSettings.__dataclass_fields__}
    settings = use.RuleSettings(**{**members, "conditions": conditions_of(body.conditions)})
    made = await use.create_rule(call.services.database, actor=call.actor, name=body.name, settings=settings)
    return _shown(made)


async def list_rules(call: Call, query: PageQuery) -> Page[Rule]:
    """All rules, by name: the order in which they are tried."""
    found = await use.list_rules(
        call.services.database, actor=call.actor, limit=query.limit + 1, after=query.cursor
    )
    return query.page([_shown(rule) for rule in found], key=lambda rule: rule.name)


async def show_rule(call: Call, name: IssuerName) -> Rule:
    """One rule."""
    return _shown(await use.show_rule(call.services.database, actor=call.actor, name=name))


async def change_rule(call: Call, name: IssuerName, body: RuleChange, conditions: Conditions) -> Rule:
    """Change a rule, and end the tokens that jobs have by it."""
    changes = {each: getattr(body, each) for each in body.model_fields_set}
    if body.conditions is not None:
        changes["conditions"] = conditions_of(body.conditions)
    changed = await use.change_rule(
        call.services.database, actor=call.actor, name=name, changes=changes, conditions=conditions
    )
    return _shown(changed)


async def delete_rule(call: Call, name: IssuerName, conditions: Conditions) -> None:
    """Let its jobs in no longer, and end the tokens that they have by it."""
    await use.delete_rule(call.services.database, actor=call.actor, name=name, conditions=conditions)


async def explain_workload(call: Call, body: GivenToken) -> WorkloadExplanation:
    """Tell what would become of a job's token, and why. Nothing is given and nothing kept."""
    return WorkloadExplanation.of(
        await explaining.explain(call.services.oidc, actor=call.actor, text=body.token)
    )


def _shown(rule: use.Rule) -> Rule:
    members = {name: getattr(rule.settings, name) for name in use.RuleSettings.__dataclass_fields__}
    members["conditions"] = shown_conditions(rule.settings.conditions)
    return Rule(name=rule.name, created_at=rule.created_at, etag=rule.etag, **members)


_CHANGED = (NotFoundError, PreconditionFailedError)
ROUTES = (
    Route(
        "POST",
        "/workload-rules",
        "admin",
        create_rule,
        status=201,
        errors=(ConflictError, NotFoundError),
    ),
    Route("GET", "/workload-rules", "admin", list_rules),
    Route("POST", "/workload-explanations", "admin", explain_workload, errors=(UnavailableError,)),
    Route("GET", "/workload-rules/{name}", "admin", show_rule, errors=(NotFoundError,)),
    Route("PATCH", "/workload-rules/{name}", "admin", change_rule, errors=_CHANGED),
    Route("DELETE", "/workload-rules/{name}", "admin", delete_rule, errors=_CHANGED),
)
