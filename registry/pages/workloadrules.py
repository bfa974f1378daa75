"""Which jobs of OIDC issuers get in: rules, made, changed, deleted, and what a job's token would get."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from registry.auth.oidc.rules import DEFAULT_SECONDS, MAX_SECONDS
from registry.http.api import issuers, workloads
from registry.http.api.models import MAX_LIMIT, PageQuery
from registry.http.api.routes import Call, read_query
from registry.oci.conditions import NO_CONDITIONS
from registry.pages.claims import conditions_in, require_showable, shown_conditions
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import (
    CursorQuery,
    Fields,
    as_seen,
    field,
    given_body,
    moved,
    read_form,
    require_confirmed,
    whole_number,
)
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

    from registry.http.api.workloads import WorkloadExplanation

SHOWN = 50
LIST = "/administration/workload-rules"
_EMPTY: Mapping[str, str] = MappingProxyType(
    {**dict.fromkeys(("audience", "conditions", "account", "scopes"), ""), "seconds": str(DEFAULT_SECONDS)}
)
"""What stands in the fields of a rule that there is not."""


async def show_rules(call: Call) -> web.Response:
    """All rules in the order in which they are tried, and forms for another one and to try a token."""
    return await _rules(call, None)


async def create_rule(call: Call) -> web.Response:
    """Let jobs of an issuer in."""
    fields = read_form(call)
    wanted = given_body(workloads.NewRule, name=field(fields, "name"), **_settings(fields))
    made = await workloads.create_rule(call, wanted)
    return moved(call, f"{LIST}/{made.name}")


async def explain_token(call: Call) -> web.Response:
    """Tell which rule a job's token would meet; it is neither kept nor shown."""
    token = "".join(field(read_form(call), "token").split())
    return await _rules(call, await workloads.explain_workload(call, workloads.GivenToken(token=token)))


async def show_rule(call: Call) -> web.Response:
    """One rule, and forms to change and to delete it."""
    rule = await workloads.show_rule(call, _name(call))
    conditions = shown_conditions(rule.conditions)
    typed = {
        "audience": rule.audience,
        "conditions": "\n".join(conditions),
        "account": rule.account,
        "scopes": "\n".join(rule.scopes),
        "seconds": str(rule.seconds),
    }
    return page(
        call.request,
        "workload-rule.html",
        title=rule.name,
        rule=rule,
        conditions=conditions,
        typed=typed,
        path=f"{LIST}/{rule.name}",
        lines=Lines(
            api=[f"PATCH /api/v1/workload-rules/{rule.name}", f"DELETE /api/v1/workload-rules/{rule.name}"],
            cli=[
                f"seatrial workload show {rule.name}",
                f"seatrial workload set {rule.name} --lifetime 15m",
                f"seatrial workload delete {rule.name}",
            ],
        ),
    )


async def change_rule(call: Call) -> web.Response:
    """Change it as it was seen; the tokens that jobs have by it end."""
    rule = await workloads.show_rule(call, _name(call))
    require_showable(rule.conditions, f"seatrial workload set {rule.name}")
    wanted = given_body(workloads.RuleChange, **_settings(read_form(call)))
    await workloads.change_rule(call, _name(call), wanted, as_seen(call))
    return moved(call, f"{LIST}/{_name(call)}")


async def delete_rule(call: Call) -> web.Response:
    """Let its jobs in no longer."""
    require_confirmed(read_form(call), _name(call))
    await workloads.delete_rule(call, _name(call), NO_CONDITIONS)
    return moved(call, LIST)


def _settings(fields: Fields) -> dict[str, object]:
    return {
        "issuer": field(fields, "issuer"),
        "audience": field(fields, "audience"),
        "conditions": conditions_in(fields),
        "account": field(fields, "account"),
        "scopes": tuple(fields.get("scopes", "").split()),
        "seconds": whole_number(fields, "seconds", most=MAX_SECONDS),
    }


async def _rules(call: Call, explained: WorkloadExplanation | None) -> web.Response:
    cursor = read_query(call.request, CursorQuery, leaves_out_empty=True).cursor
    found = await workloads.list_rules(call, PageQuery(limit=SHOWN, cursor=cursor))
    trusted = await issuers.list_issuers(call, PageQuery(limit=MAX_LIMIT))
    return page(
        call.request,
        "workload-rules.html",
        title=text("administration.workload-rules"),
        rules=[(one, shown_conditions(one.conditions)) for one in found.items],
        issuers=[one.name for one in trusted.items],
        explained=explained,
        typed=_EMPTY,
        next_path=LIST + chosen([("cursor", found.next)]) if found.next else None,
        first_path=LIST if cursor else None,
        lines=Lines(
            api=["POST /api/v1/workload-rules", "POST /api/v1/workload-explanations"],
            cli=[
                "seatrial workload list",
                (
                    "seatrial workload create NAME --issuer ISSUER --audience TEXT --claim CLAIM=VALUE "
                    "--as ACCOUNT --scope repository:team/app:pull,push"
                ),
                "seatrial workload explain FILE",
            ],
        ),
    )


def _name(call: Call) -> str:
    return call.request.match_info["rule"]
