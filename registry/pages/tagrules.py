"""Which tags of a place stand for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast, get_args

from pydantic import Field

from registry.content import tagrules as use
from registry.content.tagmatching import PATTERN_MAX, MatchKind, TagPattern
from registry.http.api import tagrules
from registry.http.api.reasons import REASON_MAX
from registry.http.api.routes import Call, read_query
from registry.http.parsers import PARSERS
from registry.pages.places import OnQuery, may, path_on
from registry.pages.rendering import Lines, page
from registry.pages.serving import as_body, field, given_body, moved, read_form, require_here, require_sure
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

EXAMPLES = 50


class RuleQuery(OnQuery):
    """A rule that somebody thinks of: which tags it means, and which of them all the same not."""

    by: MatchKind = "glob"
    pattern: str = Field(default="", max_length=PATTERN_MAX)
    exceptions: str = Field(default="", max_length=4000)
    reason: str = Field(default="", max_length=REASON_MAX)


async def show_tag_rules(call: Call) -> web.Response:
    """The rules of a place, and a form for another one. Or, of a rule that somebody thinks of in a
    repository, tags that are there and that it would hold."""
    query = read_query(call.request, RuleQuery, leaves_out_empty=True)
    held = await _held(call, query) if query.pattern and not query.on.endswith("/") else None
    found = await tagrules.list_tag_rules(call, tagrules.TagRulesQuery(on=query.on)) if held is None else ()
    return page(
        call.request,
        "tag-rules.html",
        title=text("tagrules.title", on=query.on),
        on=query.on,
        here_tab="tag-rules",
        rules=found,
        query=query,
        held=held,
        manages=may(call, "configure", query.on),
        kinds=get_args(MatchKind),
        reason_max=REASON_MAX,
        most=EXAMPLES,
        lines=Lines(
            api=[f"GET /api/v1/tag-rules?on={query.on}", "POST /api/v1/tag-rules"],
            cli=[f"seatrial tag rules {query.on}", f"seatrial tag add-rule {query.on} --semver '>=1.0.0'"],
        ),
    )


async def create_tag_rule(call: Call) -> web.Response:
    """Make a rule."""
    fields = read_form(call)
    on = field(fields, "on")
    wanted = given_body(
        tagrules.NewTagRule,
        on=on,
        by=fields.get("by", "glob"),
        pattern=field(fields, "pattern"),
        exceptions=[
            {"by": by, "pattern": pattern} for by, pattern in _exceptions(fields.get("exceptions", ""))
        ],
        reason=fields.get("reason"),
    )
    await tagrules.create_tag_rule(call, wanted)
    return moved(call, path_on("/tag-rules", on))


async def delete_tag_rule(call: Call) -> web.Response:
    """Let tags move again."""
    fields = read_form(call)
    on, number = field(fields, "on"), call.request.match_info["rule_id"]
    here = await tagrules.list_tag_rules(call, as_body(tagrules.TagRulesQuery, {"on": on}))
    pattern = next((one.pattern for one in here if str(one.id) == number), None)
    require_here(is_here=pattern is not None, what="rule")
    require_sure(fields, text("sure.tag_rule", pattern=pattern), comes_to=text("sure.tag_rule.then"))
    await tagrules.delete_tag_rule(call, number)
    return moved(call, path_on("/tag-rules", on))


async def _held(call: Call, query: RuleQuery) -> use.Held:
    """Some tags of the repository that the rule would hold."""
    excepted = [TagPattern(by, pattern) for by, pattern in _exceptions(query.exceptions)]
    return await use.list_held(
        call.services.database,
        actor=call.actor,
        name=query.on,
        wanted=use.Wanted(query.by, query.pattern, excepted, None),
        limit=EXAMPLES,
        parsers=call.request.app[PARSERS],
    )


def _exceptions(words: str) -> list[tuple[MatchKind, str]]:
    """A pattern on each line: a name with ``*``, or ``regex=…``, or ``semver=…``."""
    found: list[tuple[MatchKind, str]] = []
    for line in filter(None, map(str.strip, words.splitlines())):
        kind, equals, pattern = line.partition("=")
        if equals and kind in get_args(MatchKind):
            found.append((cast("MatchKind", kind), pattern))
        else:
            found.append(("glob", line))
    return found
