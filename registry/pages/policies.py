"""The findings policy of a repository: in sentences, in a form, and what it would refuse before it counts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from registry.auth.policy import decide, may_audit
from registry.content.administration import find
from registry.contract.findingspolicy import RULES_MAX, FindingsPolicy, Least, Otherwise, Then
from registry.contract.scan import WORST_FIRST
from registry.contract.specfile import SpecInvalidError, as_yaml
from registry.errors import NotFoundError
from registry.http.api import findingspolicies as api
from registry.http.api.routes import Call
from registry.http.api.waivers import WaiversQuery, list_waivers
from registry.pages.refilling import SEEN
from registry.pages.rendering import Lines, page, shown_whole
from registry.pages.serving import (
    Fields,
    FormInvalidError,
    as_seen,
    given_body,
    is_whole,
    moved,
    read_form,
    require_sure,
    rows_sent,
)
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

    from registry.auth.policy import Action
    from registry.http.api.findingspolicies import PreviewPage
    from registry.trials.findingspolicies import PlacedPolicy

EMPTY_RULES = 2
_DECIMAL = re.compile(r"[0-9]{1,3}\.[0-9]{1,9}", re.ASCII)
"""So many more rules than there are can be filled in at once."""
WAIVERS_SHOWN = 50
GAPS = (
    "scan_missing",
    "incomplete",
    "advisories_missing",
    "ecosystem_not_covered",
    "version_unknown",
    "severity_unknown",
    "licence_unknown",
)
"""What may not be known, by the keys of a policy."""


@dataclass(frozen=True, slots=True)
class Given:
    """A policy that somebody filled in, the entity tag of what he began with, and what would come of it."""

    document: Mapping[str, Any]
    seen: str
    previewed: PreviewPage


async def show_policy(call: Call) -> web.Response:
    """What counts here, where it was set, what is excused from it, and a form to change it."""
    return await _page(call, None)


async def preview_policy(call: Call) -> web.Response:
    """Which images a policy would refuse if it counted; nothing is changed."""
    name = call.request.match_info["name"]
    action: Action = "pull" if may_audit(call.actor) else "configure"
    await find(call.services.database, actor=call.actor, action=action, name=name)
    fields = read_form(call)
    document = document_of(fields)
    try:
        found = await api.preview_findings_policy(
            call, given_body(api.PreviewedPolicy, on=name, policy=document, cursor=fields.get("cursor"))
        )
    except SpecInvalidError as error:
        raise _refused(fields, error) from None
    return await _page(call, Given(document, fields.get(SEEN, ""), found))


async def save_policy(call: Call) -> web.Response:
    """Let a policy count here, for what is there as well."""
    name = call.request.match_info["name"]
    await find(call.services.database, actor=call.actor, action="configure", name=name)
    fields = read_form(call)
    document = document_of(fields)
    try:
        await api.put_findings_policy(
            call, given_body(api.NewFindingsPolicy, on=name, policy=document), as_seen(call)
        )
    except SpecInvalidError as error:
        raise _refused(fields, error) from None
    return moved(call, f"/r/{name}/-/findings-policy")


async def clear_policy(call: Call) -> web.Response:
    """Take the repository's own policy away; one of a namespace above counts then."""
    name = call.request.match_info["name"]
    await find(call.services.database, actor=call.actor, action="configure", name=name)
    require_sure(read_form(call), text("sure.findings", on=name), comes_to=text("sure.policy.then"))
    await api.clear_findings_policy(call, api.FindingsPolicyQuery(on=name), as_seen(call))
    return moved(call, f"/r/{name}/-/findings-policy")


def document_of(fields: Fields) -> dict[str, Any]:
    """The policy that a form was filled in with; what is no number stays as it is, to be refused."""
    document: dict[str, Any] = {"version": 1}
    rules = [rule for number in range(RULES_MAX) if (rule := _rule(fields, number))]
    licences: dict[str, Any] = {key: _lines(fields, key) for key in ("allow", "deny") if _lines(fields, key)}
    if licences.keys() and fields.get("licences-then", "fail") != "fail":
        licences |= {"then": fields["licences-then"]}
    given = {
        "vulnerabilities": rules,
        "malware": fields.get("malware"),
        "secrets": fields.get("secrets"),
        "misconfigurations": fields.get("misconfigurations", "").split(),
        "licences": licences,
        "advisories_max_age_days": _number(fields.get("advisories_max_age_days")),
        **{gap: fields.get(gap) for gap in GAPS},
    }
    return document | {key: value for key, value in given.items() if value not in (None, "", [], {})}


def _rule(fields: Fields, number: int) -> dict[str, Any]:
    def of(key: str) -> str | None:
        return fields.get(f"rule-{number}-{key}")

    fixable = {"yes": True, "no": False, None: None}
    given = {
        "severity": of("severity"),
        "score": _number(of("score")),
        "fixable": fixable.get(of("fixable"), of("fixable")),
        "kev": True if of("kev") else None,
        "epss": _number(of("epss")),
        "grace_days": _number(of("grace_days")),
        "then": of("then"),
    }
    rule = {key: value for key, value in given.items() if value is not None}
    # Each row of the form says what follows.
    return rule if rule.keys() - {"then"} else {}


def _lines(fields: Fields, key: str) -> list[str]:
    return [line.strip() for line in fields.get(key, "").split("\n") if line.strip()]


def _number(words: str | None) -> int | float | str | None:
    if words is not None and is_whole(words):
        return int(words)
    return float(words) if words is not None and _DECIMAL.fullmatch(words) else words


def _refused(fields: Fields, error: SpecInvalidError) -> FormInvalidError:
    """What is wrong, by the rows and the fields of the form."""
    rows = [number for number in range(RULES_MAX) if _rule(fields, number)]
    said, names = [], []
    for one in error.problems:
        first, *rest = one.path.split(".")
        place, name = one.path, first
        if first == "vulnerabilities" and rest and rest[0].isdigit() and int(rest[0]) < len(rows):
            row = rows[int(rest[0])]
            place = " ".join([text("policy.rule", number=row + 1), *rest[1:]])
            name = "-".join(["rule", str(row), *rest[1:2]])
        elif first == "licences" and rest:
            name = rest[0]
        said.append(f"{place}: {one.message}")
        names.append(name)
    return FormInvalidError(text("policy.wrong", problems="; ".join(said)), names=names)


def sentences_of(document: Mapping[str, Any]) -> Sequence[str]:
    """What a policy that is valid says."""
    policy = FindingsPolicy.model_validate_json(json.dumps(document))
    said = [
        text(f"policy.vulnerabilities.{rule.then}", what=rule.in_words()) for rule in policy.vulnerabilities
    ]
    if policy.malware != "ignore":
        said.append(text("policy.says.malware", severity=text(f"least.{policy.malware}")))
    if policy.secrets is not None:
        said.append(text("policy.says.secrets", severity=text(f"least.{policy.secrets}")))
    if policy.misconfigurations:
        said.append(text("policy.says.misconfigurations", ids=", ".join(policy.misconfigurations)))
    if policy.licences is not None:
        rule = policy.licences
        if rule.deny:
            said.append(text(f"policy.deny.{rule.then}", names=", ".join(rule.deny)))
        if rule.allow:
            said.append(text(f"policy.allow.{rule.then}", names=", ".join(rule.allow)))
    if policy.advisories_max_age_days is not None:
        said.append(text("policy.says.age", days=policy.advisories_max_age_days))
    for outcome in get_args(Otherwise):
        gaps = [text(f"gap.{gap}") for gap in GAPS if getattr(policy, gap) == outcome]
        if gaps:
            said.append(text(f"policy.unknown.{outcome}", gaps="; ".join(gaps)))
    return said


async def _page(call: Call, given: Given | None) -> web.Response:
    name = call.request.match_info["name"]
    repository = await find(call.services.database, actor=call.actor, action="pull", name=name)
    placed: PlacedPolicy | None = None
    with suppress(NotFoundError):  # none counts here
        placed = await api.show_findings_policy(call, api.FindingsPolicyQuery(on=name))
    found = await list_waivers(call, WaiversQuery(repository=name, limit=WAIVERS_SHOWN))
    stored: Mapping[str, Any] = {"version": 1} if placed is None else placed.policy
    document = stored if given is None else given.document
    rules = [*document.get("vulnerabilities", ())]
    empty = min(max(EMPTY_RULES, rows_sent(call, "rule") - len(rules)), RULES_MAX - len(rules))
    own_tag = placed.etag if placed is not None and placed.on == name else ""
    return page(
        call.request,
        "findings-policy.html",
        title=text("policy.title", name=name),
        name=name,
        here_tab="gate",
        here_part="findings-policy",
        path=f"/r/{name}/-/findings-policy",
        placed=placed,
        sentences=() if placed is None else sentences_of(placed.policy),
        yaml="" if placed is None else shown_whole(as_yaml(placed.policy)),
        excused=[one for one in found.items if one.finding and one.standing in ("requested", "granted")],
        given=given,
        document=document,
        rules=[*rules, *({} for _ in range(empty))],
        own_tag=own_tag,
        seen=own_tag if given is None else given.seen,
        severities=[one for one in WORST_FIRST if one in get_args(Least)],
        thens=get_args(Then),
        otherwise=get_args(Otherwise),
        gaps=GAPS,
        manages=decide(call.actor, "configure", name, repository.visibility).allowed,
        previews=may_audit(call.actor),
        lines=Lines(
            api=[f"GET /api/v1/findings-policy?on={name}", "POST /api/v1/findings-policy/preview"],
            cli=[
                f"seatrial policy show {name}",
                f"seatrial policy preview {name} policy.yaml",
                f"seatrial policy set {name} policy.yaml",
            ],
        ),
    )
