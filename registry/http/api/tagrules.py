"""``/api/v1/tag-rules``: tags that stand where they stand for good."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from registry.content import tagrules as use
from registry.content.immutability import TagRule
from registry.content.tagmatching import PATTERN_MAX, MatchKind, TagPattern
from registry.errors import ConflictError, NameInvalidError, NameUnknownError, NotFoundError
from registry.http.api.fields import Id, PlaceKey, TagName
from registry.http.api.models import Body, Query
from registry.http.api.reasons import Reason, numbered, one_line
from registry.http.api.routes import Call, Route
from registry.oci.names import parse_tag


class TagRulesQuery(Query):
    """The rules of which place, or of a repository those that hold for a tag."""

    on: PlaceKey
    tag: TagName | None = Field(
        default=None, description="Only the rules that hold for this tag, also those on namespaces above."
    )


class Tags(Body):
    """Tags that are meant: by a pattern with `*`, an RE2 pattern of the whole name, a range of versions."""

    by: MatchKind
    pattern: str = Field(max_length=PATTERN_MAX, examples=[">=1.0.0"])


class NewTagRule(Tags):
    """Which tags of a place are to stand for good, and which of them all the same not."""

    on: PlaceKey
    exceptions: list[Tags] = Field(default=[], max_length=use.EXCEPTIONS_MAX)
    reason: Reason | None = None


async def list_tag_rules(call: Call, query: TagRulesQuery) -> Sequence[TagRule]:
    """The tags that stand for good in a repository, or in all below a namespace.

    Rules on namespaces above count as well; with a tag they are listed too."""
    database = call.services.database
    tag = None if query.tag is None else parse_tag(query.tag)
    return await use.list_rules(database, actor=call.actor, on=query.on, tag=tag)


async def create_tag_rule(call: Call, body: NewTagRule) -> TagRule:
    """Let tags stand for good, once they are there.

    Nobody moves or deletes them then, nor what they are made of, until the rule is taken away. A place has no
    two rules that are equal but for the reason."""
    wanted = use.Wanted(
        by=body.by,
        pattern=body.pattern,
        exceptions=[TagPattern(each.by, each.pattern) for each in body.exceptions],
        reason=None if body.reason is None else one_line(body.reason),
    )
    return await use.create(call.services.database, actor=call.actor, on=body.on, wanted=wanted)


async def delete_tag_rule(call: Call, rule_id: Id) -> None:
    """Let tags move again."""
    await use.remove(call.services.database, actor=call.actor, rule_id=numbered(rule_id, "rule for tags"))


_NOWHERE = (NameInvalidError, NameUnknownError, NotFoundError)
ROUTES = (
    Route("GET", "/tag-rules", "anyone", list_tag_rules, errors=_NOWHERE),
    Route("POST", "/tag-rules", "anyone", create_tag_rule, status=201, errors=(*_NOWHERE, ConflictError)),
    Route("DELETE", "/tag-rules/{rule_id}", "anyone", delete_tag_rule, errors=(NotFoundError,)),
)
