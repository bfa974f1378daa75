"""Which tags stand for good where, as maintainers say it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select

from registry.auth.places import find_place, hold_place, parse_place, require_fewer
from registry.content.administration import find, require_place
from registry.content.immutability import RULES, TagRule, rule_of, rules_of
from registry.content.nameranges import NameRange
from registry.content.tagmatching import MatchKind, TagPattern, glob_prefix, parse_matcher
from registry.db.content import tags
from registry.db.outbox import record
from registry.db.tagrules import tag_rules
from registry.db.types import db_time
from registry.errors import ConflictError, NotFoundError, RequestInvalidError
from registry.events.webhooks import managed_place

if TYPE_CHECKING:
    from registry.auth.actor import Actor
    from registry.db.engine import Database
    from registry.storage.threads import Threads

RULES_MAX = 50
"""On one place: a move of a tag is held against all of them."""
EXCEPTIONS_MAX = 20
_LOOKED_AT, _PORTIONS_MAX = 5_000, 4
"""So many tags are read at once, so many times, to show which ones a rule would hold."""
PATTERNS_MAX = 100
"""Of all rules of one place, with their exceptions. So many stay read."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A rule to make."""

    by: MatchKind
    pattern: str
    exceptions: Sequence[TagPattern] = ()
    reason: str | None = None


async def list_rules(
    database: Database, *, actor: Actor, on: str, tag: str | None = None
) -> Sequence[TagRule]:
    """The rules on a repository, or a namespace with a slash at its end; those above count as well. With
    ``tag`` those that hold for it, of a repository also those above.

    Raises:
        UnauthorizedError, DeniedError: the actor may not pull there.
        NameUnknownError, NotFoundError: there is no such place.
    """
    place = await require_place(database, actor=actor, action="pull", on=on)
    async with database.read() as connection:
        number = await find_place(connection, place)
        if tag is not None and not place.is_namespace:
            found = await rules_of(connection, number)
        else:
            query = RULES.where(tag_rules.c[place.column] == number).order_by(tag_rules.c.id)
            found = [rule_of(row) for row in await connection.execute(query)]
    return found if tag is None else [rule for rule in found if rule.holds(tag)]


@dataclass(frozen=True, slots=True)
class Held:
    """Some ``tags`` that a rule would hold, of the first ``looked_at``; ``is_whole``: there are no others
    that it could mean."""

    tags: Sequence[str]
    looked_at: int
    is_whole: bool


async def list_held(
    database: Database, *, actor: Actor, name: str, wanted: Wanted, limit: int, parsers: Threads
) -> Held:
    """Tags of a repository that a rule would hold, by name: at most ``limit``, of the first 20,000 that its
    pattern may mean.

    Raises:
        UnauthorizedError, DeniedError, NameUnknownError: as :func:`find`, to pull.
        RequestInvalidError: a pattern that is none.
    """
    repository = await find(database, actor=actor, action="pull", name=name)
    meant = parse_matcher(wanted.by, wanted.pattern)
    excepted = [parse_matcher(each.by, each.pattern) for each in wanted.exceptions]

    def hold(names: Sequence[str]) -> list[str]:
        return [tag for tag in names if meant(tag) and not any(test(tag) for test in excepted)]

    within = NameRange(glob_prefix(wanted.pattern) if wanted.by == "glob" else "")
    held: list[str] = []
    looked_at, after = 0, ""
    for _ in range(_PORTIONS_MAX):
        conditions = within.conditions(tags.c.name, after)
        if conditions is None:
            return Held(held, looked_at, is_whole=True)
        here = select(tags.c.name).where(tags.c.repository_id == repository.id, *conditions)
        async with database.read_once() as connection:
            found = await connection.execute(here.order_by(tags.c.name).limit(_LOOKED_AT))
            names = list(found.scalars())
        # By a thread: there may be hundreds of exceptions.
        held += await parsers.run(hold, names)
        looked_at += len(names)
        if len(held) >= limit:
            break
        if len(names) < _LOOKED_AT:
            return Held(held, looked_at, is_whole=True)
        after = names[-1]
    return Held(held[:limit], looked_at, is_whole=False)


async def create(database: Database, *, actor: Actor, on: str, wanted: Wanted) -> TagRule:
    """Let tags stand for good from now on, those that there are as well.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer of the place.
        NameUnknownError, NotFoundError: there is no such place.
        RequestInvalidError: a pattern that is none, or too many exceptions.
        ConflictError: the place has as many as it may, or this one already, whatever its reason.
    """
    place = await require_place(database, actor=actor, action="configure", on=on)
    if len(wanted.exceptions) > EXCEPTIONS_MAX:
        raise RequestInvalidError(f"a rule has {EXCEPTIONS_MAX} exceptions at most")
    for each in (TagPattern(wanted.by, wanted.pattern), *wanted.exceptions):
        parse_matcher(each.by, each.pattern)
    excepted = set(wanted.exceptions)
    async with database.write() as connection:
        place_id = await hold_place(connection, place)
        await require_fewer(connection, tag_rules, {place.column: place_id}, most=RULES_MAX)
        rows = await connection.execute(RULES.where(tag_rules.c[place.column] == place_id))
        there = [rule_of(row) for row in rows]
        for one in there:
            if (one.by, one.pattern) == (wanted.by, wanted.pattern) and set(one.exceptions) == excepted:
                raise ConflictError(f"{on} has this rule already; it is rule {one.id}")
        if sum(1 + len(one.exceptions) for one in there) + 1 + len(wanted.exceptions) > PATTERNS_MAX:
            raise ConflictError(f"the rules of {on} would have more than {PATTERNS_MAX} patterns")
        made = await connection.execute(
            insert(tag_rules)
            .values(
                {
                    place.column: place_id,
                    "kind": wanted.by,
                    "pattern": wanted.pattern,
                    "exceptions": json.dumps([[each.by, each.pattern] for each in wanted.exceptions]),
                    "reason": wanted.reason,
                    "created_by": actor.shown,
                    "created_at": db_time(),
                }
            )
            .returning(tag_rules.c.id)
        )
        this = RULES.where(tag_rules.c.id == made.scalar_one())
        rule = rule_of((await connection.execute(this)).one())
        await record(connection, "tag_rule.created", place.key, actor, _told(rule))
    return rule


async def remove(database: Database, *, actor: Actor, rule_id: int) -> None:
    """Let tags move again.

    Raises:
        NotFoundError: there is no such rule, or the actor may make none there.
    """
    missing = NotFoundError(f"there is no rule {rule_id} for tags that you manage")
    key = await managed_place(database, actor, tag_rules, rule_id)
    if key is None:
        raise missing
    async with database.write() as connection:
        await hold_place(connection, parse_place(key))
        row = (await connection.execute(RULES.where(tag_rules.c.id == rule_id))).first()
        gone = await connection.execute(delete(tag_rules).where(tag_rules.c.id == rule_id))
        if row is None or gone.rowcount == 0:
            raise missing
        await record(connection, "tag_rule.deleted", key, actor, _told(rule_of(row)))


def _told(rule: TagRule) -> dict[str, Any]:
    excepted = [[each.by, each.pattern] for each in rule.exceptions]
    return {"rule": rule.id, "by": rule.by, "pattern": rule.pattern, "exceptions": excepted}
