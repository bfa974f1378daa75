"""What would become of a job's token: for the administrator who writes rules."""

from __future__ import annotations

from dataclasses import dataclass

from registry.auth.access import require_admin
from registry.auth.actor import Actor
from registry.auth.oidc.conditions import missing
from registry.auth.oidc.directory import IssuerUnavailableError
from registry.auth.oidc.exchange import trusted_claims
from registry.auth.oidc.opened import Oidc
from registry.auth.oidc.rules import RULES, rule_of
from registry.auth.oidc.signed import TokenRefusedError, audiences
from registry.db.oidc import issuers, workload_rules
from registry.errors import UnavailableError

MAX_RULES = 1000


@dataclass(frozen=True, slots=True)
class LookedAt:
    """How one rule stands to the token."""

    name: str
    holds: bool
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """``rule`` is the one that the token meets first; ``claims`` are names only, in order."""

    rule: str | None
    reason: str
    claims: tuple[str, ...] = ()
    looked_at: tuple[LookedAt, ...] = ()


async def explain(oidc: Oidc, *, actor: Actor, text: str) -> Explanation:
    """Look at a token as the exchange would, and give nothing for it.

    Raises:
        DeniedError: the actor is no administrator.
        UnavailableError: its issuer cannot be asked for its keys.
    """
    require_admin(actor)
    try:
        claims = await trusted_claims(oidc, text)
    except TokenRefusedError as error:
        return Explanation(None, error.why)
    except IssuerUnavailableError as error:
        raise UnavailableError(f"the issuer of this token cannot be used: {error.why}") from None
    query = RULES.where(issuers.c.url == claims["iss"]).order_by(workload_rules.c.name).limit(MAX_RULES)
    async with oidc.database.read() as connection:
        rules = [rule_of(row) for row in await connection.execute(query)]
    looked_at = []
    for rule in rules:
        lacking = [str(condition) for condition in missing(rule.settings.conditions, claims)]
        if audiences(claims) != (rule.settings.audience,):
            lacking.insert(0, f"aud={rule.settings.audience} alone")
        looked_at.append(LookedAt(rule.name, not lacking, tuple(lacking)))
    met = next((each.name for each in looked_at if each.holds), None)
    reason = f"it meets the rule {met}" if met else "it is valid and meets no rule of its issuer"
    return Explanation(met, reason, tuple(sorted(claims)), tuple(looked_at))
