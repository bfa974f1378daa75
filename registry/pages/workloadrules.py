"""Which jobs of OIDC issuers get in: rules, made, changed, deleted, and what a job's token would get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from registry.auth.oidc.rules import DEFAULT_SECONDS, MAX_SECONDS
from registry.errors import SeatrialError, UnauthorizedError
from registry.http.api import issuers, workloads
from registry.http.api.models import MAX_LIMIT, PageQuery
from registry.http.api.routes import Call, read_query
from registry.oci.conditions import NO_CONDITIONS
from registry.pages.claims import conditions_in, shown_conditions
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import (
    CursorQuery,
    Fields,
    field,
    given_body,
    moved,
    read_form,
    require_confirmed,
    unchanged,
    whole_number,
)
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

    from registry.http.api.workloads import Rule, WorkloadExplanation

SHOWN = 50
LIST = "/administration/workload-rules"
_EMPTY: Fields = MappingProxyType({"seconds": str(DEFAULT_SECONDS)})


@dataclass(frozen=True, slots=True)
class Given:
    """What somebody typed that was ``refused``; or, of a token, what would become of it."""

    fields: Fields
    refused: str = ""
    explained: WorkloadExplanation | None = None
    status: int = 200


async def show_rules(call: Call) -> web.Response:
    """All rules in the order in which they are tried, and forms for another one and to try a token."""
    return await _rules(call, Given(_EMPTY))


async def create_rule(call: Call) -> web.Response:
    """Let jobs of an issuer in."""
    fields = read_form(call)
    try:
        made = await workloads.create_rule(call, _wanted(fields))
    except SeatrialError as error:
        return await _rules(call, _refused(fields, error))
    return moved(call, f"{LIST}/{made.name}")


async def explain_token(call: Call) -> web.Response:
    """Tell which rule a job's token would meet; it is neither kept nor shown."""
    token = "".join(field(read_form(call), "token").split())
    try:
        told = await workloads.explain_workload(call, workloads.GivenToken(token=token))
    except SeatrialError as error:
        return await _rules(call, _refused(_EMPTY, error))
    return await _rules(call, Given(_EMPTY, explained=told))


async def show_rule(call: Call) -> web.Response:
    """One rule, and forms to change and to delete it."""
    return _rule(call, await workloads.show_rule(call, _name(call)), None)


async def change_rule(call: Call) -> web.Response:
    """Change it as it was seen; the tokens that jobs have by it end."""
    fields = read_form(call)
    try:
        wanted = given_body(workloads.RuleChange, **_settings(fields))
        await workloads.change_rule(call, _name(call), wanted, unchanged(field(fields, "etag")))
    except SeatrialError as error:
        return _rule(call, await workloads.show_rule(call, _name(call)), _refused(fields, error))
    return moved(call, f"{LIST}/{_name(call)}")


async def delete_rule(call: Call) -> web.Response:
    """Let its jobs in no longer."""
    require_confirmed(read_form(call), _name(call))
    await workloads.delete_rule(call, _name(call), NO_CONDITIONS)
    return moved(call, LIST)


def _wanted(fields: Fields) -> workloads.NewRule:
    return given_body(workloads.NewRule, name=field(fields, "name"), **_settings(fields))


def _settings(fields: Fields) -> dict[str, object]:
    return {
        "issuer": field(fields, "issuer"),
        "audience": field(fields, "audience"),
        "conditions": conditions_in(fields),
        "account": field(fields, "account"),
        "scopes": tuple(fields.get("scopes", "").split()),
        "seconds": whole_number(fields, "seconds", most=MAX_SECONDS),
    }


def _refused(fields: Fields, error: SeatrialError) -> Given:
    if isinstance(error, UnauthorizedError):
        raise error
    return Given(fields, refused=error.message, status=error.status)


async def _rules(call: Call, given: Given) -> web.Response:
    cursor = None
    if call.request.method == "GET":
        cursor = read_query(call.request, CursorQuery, leaves_out_empty=True).cursor
    found = await workloads.list_rules(call, PageQuery(limit=SHOWN, cursor=cursor))
    trusted = await issuers.list_issuers(call, PageQuery(limit=MAX_LIMIT))
    return page(
        call.request,
        "workload-rules.html",
        title=text("administration.workload-rules"),
        rules=[(one, shown_conditions(one.conditions)) for one in found.items],
        issuers=[one.name for one in trusted.items],
        given=given,
        typed=_typed(given.fields),
        status=given.status,
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


def _rule(call: Call, rule: Rule, given: Given | None) -> web.Response:
    now = {
        "issuer": rule.issuer,
        "audience": rule.audience,
        "conditions": shown_conditions(rule.conditions),
        "account": rule.account,
        "scopes": "\n".join(rule.scopes),
        "seconds": str(rule.seconds),
        "etag": rule.etag,
    }
    return page(
        call.request,
        "workload-rule.html",
        title=rule.name,
        rule=rule,
        conditions=now["conditions"].split("\n"),
        given=given,
        typed=_typed(now if given is None else given.fields),
        path=f"{LIST}/{rule.name}",
        status=200 if given is None else given.status,
        lines=Lines(
            api=[f"PATCH /api/v1/workload-rules/{rule.name}", f"DELETE /api/v1/workload-rules/{rule.name}"],
            cli=[
                f"seatrial workload show {rule.name}",
                f"seatrial workload set {rule.name} --lifetime 15m",
                f"seatrial workload delete {rule.name}",
            ],
        ),
    )


def _typed(fields: Fields) -> Mapping[str, str]:
    """What stands in the fields."""
    names = ("name", "issuer", "audience", "conditions", "account", "scopes", "seconds", "etag")
    return {name: fields.get(name, "") for name in names}


def _name(call: Call) -> str:
    return call.request.match_info["rule"]
